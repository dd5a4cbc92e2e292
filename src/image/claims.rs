//! What image files claim, compared with what is there before a decoder believes it.
//!
//! WebP: the decoder makes room for a chunk as long as it says it is, and for a frame as large as the frame says, which may
//! be more than the image that the file says it is. Source: the container (<https://developers.google.com/speed/webp/docs/riff_container>), RFC 6386 (section
//! 9.1) for the header of a lossy frame, and RFC 9649 (section 3) for that of a lossless one.
//!
//! TIFF: the decoder makes room for as many values as a tag says it has. Source: TIFF 6.0, section 2
//! (<https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf>).

use super::ImageFormat;
use super::decode::damaged;
use crate::error::Result;

/// The bytes of an animated frame's own header.
const ANIMATED_HEADER_LEN: usize = 16;

/// Checks that no chunk of a WebP file is longer than the file, and no frame larger than the image.
pub(super) fn check_frames(bytes: &[u8], width: usize, height: usize) -> Result<()> {
    // Behind `RIFF`, a length, and `WEBP`.
    check_chunks(bytes.get(12..).unwrap_or_default(), width, height, true)
}

/// `is_outermost` unless the chunks are those of an animated frame, which has none of its own kind in it.
fn check_chunks(mut bytes: &[u8], width: usize, height: usize, is_outermost: bool) -> Result<()> {
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(content) = rest.get(..len) else {
            let name = head[..4].escape_ascii();
            let message = format!("a chunk `{name}` of {len} bytes, of which {} are there", rest.len());
            return Err(damaged(ImageFormat::WebP, message));
        };
        let extents = match &head[..4] {
            b"VP8 " => lossy(content),
            b"VP8L" => lossless(content),
            b"ANMF" if is_outermost => {
                check_chunks(content.get(ANIMATED_HEADER_LEN..).unwrap_or_default(), width, height, false)?;
                None
            }
            _ => None,
        };
        if let Some((w, h)) = extents.filter(|&(w, h)| w > width || h > height) {
            let message = format!("a frame of {w} x {h} pixels in an image of {width} x {height}");
            return Err(damaged(ImageFormat::WebP, message));
        }
        // Chunks are padded to an even length.
        bytes = rest.get(len + len % 2..).unwrap_or_default();
    }
    Ok(())
}

/// Width and height of a frame, if there is a header. What is wrong with one that is not whole, the decoder tells.
fn lossy(frame: &[u8]) -> Option<(usize, usize)> {
    let &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = frame else { return None };
    let extent = |low, high| usize::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Some((extent(w0, w1), extent(h0, h1)))
}

fn lossless(frame: &[u8]) -> Option<(usize, usize)> {
    let &[0x2f, a, b, c, d, ..] = frame else { return None };
    let bits = u32::from_le_bytes([a, b, c, d]);
    Some(((bits & 0x3fff) as usize + 1, (bits >> 14 & 0x3fff) as usize + 1))
}

/// Checks that no tag of the first image in a TIFF file has more values than the file has bytes for.
pub(super) fn check_tags(bytes: &[u8]) -> Result<()> {
    let big_endian = bytes.starts_with(b"MM");
    let number = |at: usize, len: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        let append = |number: usize, byte: &u8| number << 8 | usize::from(*byte);
        Some(if big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) })
    };
    // A directory that is not whole, or of values of an unknown type, is the decoder's to refuse.
    let Some(directory) = number(4, 4) else { return Ok(()) };
    let num_tags = number(directory, 2).unwrap_or(0);
    for tag in 0..num_tags {
        let entry = directory + 2 + 12 * tag;
        let (Some(name), Some(kind), Some(count)) = (number(entry, 2), number(entry + 2, 2), number(entry + 4, 4))
        else {
            return Ok(());
        };
        let size = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8].get(kind).copied().unwrap_or(1);
        if count.saturating_mul(size) > bytes.len() {
            let message = format!("tag {name} of {count} values in a file of {} bytes", bytes.len());
            return Err(damaged(ImageFormat::Tiff, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let padding = &[0][..content.len() % 2];
        [&name[..], &(content.len() as u32).to_le_bytes(), content, padding].concat()
    }

    fn check(chunks: &[Vec<u8>]) -> bool {
        let bytes = [&b"RIFF\0\0\0\0WEBP"[..], &chunks.concat()].concat();
        check_frames(&bytes, 40, 30).is_ok()
    }

    #[test]
    fn a_frame_is_not_larger_than_its_image() {
        let lossy = |w: u16, h: u16| {
            let [w, h] = [w, h].map(u16::to_le_bytes);
            chunk(b"VP8 ", &[0, 0, 0, 0x9d, 1, 0x2a, w[0], w[1], h[0], h[1], 7])
        };
        let lossless = |w: u32, h: u32| {
            let bits = ((w - 1) | (h - 1) << 14).to_le_bytes();
            chunk(b"VP8L", &[&[0x2f][..], &bits].concat())
        };
        let animated = |frame: Vec<u8>| chunk(b"ANMF", &[&[0; ANIMATED_HEADER_LEN][..], &frame].concat());
        let other = || chunk(b"EXIF", b"odd");
        for (w, h, fits) in [(40, 30, true), (1, 1, true), (41, 30, false), (40, 31, false), (16_383, 16_383, false)] {
            assert_eq!(check(&[other(), lossy(w, h)]), fits);
            assert_eq!(check(&[other(), lossless(w.into(), h.into())]), fits);
            assert_eq!(check(&[animated(lossy(40, 30)), animated(lossy(w, h))]), fits);
        }
        // The two upper bits of a lossy extent are a scale.
        assert!(check(&[lossy(40 | 0xc000, 30 | 0x4000)]));
        // However deep frames are nested.
        assert!(check(&[(0..50_000).fold(Vec::new(), |frame, _| if frame.len() < 1 << 20 {
            animated(frame)
        } else {
            frame
        })]));
        assert!(check(&[]) && check(&[b"VP8".to_vec()]));
        // A chunk is there as a whole, the byte that makes its length even apart.
        assert!(check(&[b"EXIF\x02\0\0\0ab".to_vec()]) && check(&[b"EXIF\x01\0\0\0a".to_vec()]));
        assert!(!check(&[b"EXIF\x03\0\0\0ab".to_vec()]) && !check(&[b"EXIF\xff\xff\xff\xff".to_vec()]));
    }

    #[test]
    fn a_tag_has_no_more_values_than_there_are_bytes() {
        let file = |little: bool, kind: u16, count: u32| {
            let (two, four) = if little {
                (u16::to_le_bytes as fn(u16) -> [u8; 2], u32::to_le_bytes as fn(u32) -> [u8; 4])
            } else {
                (u16::to_be_bytes as fn(u16) -> [u8; 2], u32::to_be_bytes as fn(u32) -> [u8; 4])
            };
            let magic = if little { b"II" } else { b"MM" };
            let entry = |count: u32| [&two(258)[..], &two(kind), &four(count), &four(0)].concat();
            [&magic[..], &two(42), &four(8), &two(2), &entry(1), &entry(count), &four(0)].concat()
        };
        for little in [true, false] {
            // 38 bytes in all.
            for (kind, count, fits) in [(1, 38, true), (1, 39, false), (3, 19, true), (3, 20, false), (12, 5, false)] {
                assert_eq!(check_tags(&file(little, kind, count)).is_ok(), fits, "{kind} {count}");
            }
            let whole = file(little, 4, u32::MAX);
            assert!(check_tags(&whole).is_err());
            (0..30).for_each(|len| assert!(check_tags(&whole[..len]).is_ok(), "{len}"));
        }
    }
}
