//! What image files claim, compared with what is there before a decoder believes it.
//!
//! WebP: the decoder makes room for a chunk as long as it says it is, and for a frame as large as the frame says, which may
//! be more than the image that the file says it is. Source: the container (<https://developers.google.com/speed/webp/docs/riff_container>), RFC 6386 (section
//! 9.1) for the header of a lossy frame, and RFC 9649 (section 3) for that of a lossless one.
//!
//! TIFF: the decoder makes room for as many values as a tag says it has, and for a row of a strip or tile, which may be wider
//! than the image. A JPEG within a TIFF is read without a look at how large it is, so it is not read at all. Source: TIFF
//! 6.0, section 2 (<https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf>).
//!
//! GIF: the decoder makes room for a frame, which may be larger than the image. Source: GIF89a, sections 18 to 26
//! (<https://www.w3.org/Graphics/GIF/spec-gif89a.txt>).

use super::ImageFormat;
use super::decode::damaged;
use crate::error::{Error, ErrorKind, Result};

/// The bytes of an animated frame's own header.
const ANIMATED_HEADER_LEN: usize = 16;

/// The most channels of a TIFF file beside those of its colours. Such files have one, for transparency.
const MAX_EXTRA_SAMPLES: u64 = 8;

/// The part of a WebP file that its container speaks of. What stands behind belongs to others.
pub(super) fn container(bytes: &[u8]) -> &[u8] {
    let Some(&[_, _, _, _, a, b, c, d]) = bytes.first_chunk::<8>() else { return bytes };
    let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX).saturating_add(8);
    bytes.get(..len).unwrap_or(bytes)
}

/// Checks that no chunk of a WebP file is longer than the file, no frame larger than the image, and what an animated frame
/// holds as large as that frame.
pub(super) fn check_frames(bytes: &[u8], width: usize, height: usize) -> Result<()> {
    let is_inside = |w, h| w <= width && h <= height;
    // Behind `RIFF`, a length, and `WEBP`.
    for_each_chunk(bytes.get(12..).unwrap_or_default(), |name, content| {
        if name == b"ANMF" {
            return check_animated(content, width, height);
        }
        check_extents(name, content, is_inside, "an image", (width, height))
    })
}

/// What an animated frame holds. The decoder believes the extents of the frame's header, and takes what stands behind a
/// frame's alpha for a lossy frame, whatever its name is and whatever extents it has.
fn check_animated(frame: &[u8], width: usize, height: usize) -> Result<()> {
    // What is too short for its header, the decoder refuses.
    let Some((header, chunks)) = frame.split_first_chunk::<ANIMATED_HEADER_LEN>() else { return Ok(()) };
    let extent = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], 0]) as usize + 1;
    let own @ (w, h) = (extent(6), extent(9));
    if w > width || h > height {
        return Err(misfit(own, "an image", (width, height)));
    }
    let mut is_behind_alpha = false;
    for_each_chunk(chunks, |name, content| {
        if std::mem::replace(&mut is_behind_alpha, name == b"ALPH") && name != b"VP8 " {
            let message = format!("a chunk `{}` behind the alpha of a frame, expected `VP8 `", name.escape_ascii());
            return Err(damaged(ImageFormat::WebP, message));
        }
        check_extents(name, content, |w, h| (w, h) == own, "an animated frame", own)
    })
}

/// Calls a function with the name and the content of each chunk.
fn for_each_chunk(mut bytes: &[u8], mut f: impl FnMut(&[u8; 4], &[u8]) -> Result<()>) -> Result<()> {
    while let Some((&[n0, n1, n2, n3, l0, l1, l2, l3], rest)) = bytes.split_first_chunk::<8>() {
        let name = &[n0, n1, n2, n3];
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        let Some(content) = rest.get(..len) else {
            let name = name.escape_ascii();
            let message = format!("a chunk `{name}` of {len} bytes, of which {} are there", rest.len());
            return Err(damaged(ImageFormat::WebP, message));
        };
        f(name, content)?;
        // Chunks are padded to an even length.
        bytes = rest.get(len + len % 2..).unwrap_or_default();
    }
    Ok(())
}

fn check_extents(
    name: &[u8; 4],
    content: &[u8],
    fits: impl Fn(usize, usize) -> bool,
    place: &str,
    of_place: (usize, usize),
) -> Result<()> {
    let extents = match name {
        b"VP8 " => lossy(content),
        b"VP8L" => lossless(content),
        _ => None,
    };
    extents.filter(|&(w, h)| !fits(w, h)).map_or(Ok(()), |extents| Err(misfit(extents, place, of_place)))
}

fn misfit((w, h): (usize, usize), place: &str, (width, height): (usize, usize)) -> Error {
    damaged(ImageFormat::WebP, format!("a frame of {w} x {h} pixels in {place} of {width} x {height}"))
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

/// Checks that no tag of the first image in a TIFF file has more values than the file has bytes for, and that the decoder's
/// buffer for a row is within the limit.
pub(super) fn check_tags(bytes: &[u8], limit_bytes: u64) -> Result<()> {
    let big_endian = bytes.starts_with(b"MM");
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        let append = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) })
    };
    let place = |at: usize| number(at, 4).and_then(|place| usize::try_from(place).ok());
    // A directory that is not whole, or of values of an unknown type, is the decoder's to refuse.
    let Some(directory) = place(4) else { return Ok(()) };
    let num_tags = number(directory, 2).unwrap_or(0) as usize;
    // Of a tag that is there twice the decoder takes the last one; the larger one is on the safe side.
    let (mut width, mut samples, mut bits) = (0, 1, 1);
    for tag in 0..num_tags {
        let entry = directory + 2 + 12 * tag;
        let (Some(name), Some(kind), Some(count)) = (number(entry, 2), number(entry + 2, 2), number(entry + 4, 4))
        else {
            break;
        };
        let sizes = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 1, 1, 8, 8, 8];
        let size = sizes.get(kind as usize).copied().unwrap_or(1);
        if count.saturating_mul(size) > bytes.len() as u64 {
            let message = format!("tag {name} of {count} values in a file of {} bytes", bytes.len());
            return Err(damaged(ImageFormat::Tiff, message));
        }
        // Values of up to four bytes stand in the entry, others elsewhere. All samples have as many bits as the first one.
        let at = if count * size <= 4 { Some(entry + 8) } else { place(entry + 8) };
        let value = at.and_then(|at| number(at, size as usize)).unwrap_or(0);
        match name {
            // The widths of the image and of a tile.
            256 | 322 => width = value.max(width),
            258 => bits = value.max(bits),
            259 if matches!(value, 6 | 7) => {
                return Err(Error::new(ErrorKind::Format, "a TIFF image compressed as JPEG, which is not read"));
            }
            277 => samples = value.max(samples),
            338 if count > MAX_EXTRA_SAMPLES => {
                let message = format!("{count} channels beside the colours, expected at most {MAX_EXTRA_SAMPLES}");
                return Err(damaged(ImageFormat::Tiff, message));
            }
            _ => {}
        }
    }
    let row_bytes = width.saturating_mul(samples).saturating_mul(bits).div_ceil(8);
    if row_bytes > limit_bytes {
        let message = format!(
            "TIFF rows of {width} pixels of {samples} x {bits} bits take {row_bytes} bytes, the limit is {limit_bytes}"
        );
        return Err(Error::new(ErrorKind::Limit, message));
    }
    Ok(())
}

/// Width and height of the first frame of a GIF file, if there is one.
pub(super) fn first_frame(gif: &[u8]) -> Option<(usize, usize)> {
    let colours_len = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + colours_len(*gif.get(10)?);
    loop {
        match gif.get(at..)? {
            &[0x2c, _, _, _, _, w0, w1, h0, h1, ..] => {
                return Some((u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into()));
            }
            // An extension, in pieces of up to 255 bytes, the last one of none.
            [0x21, ..] => {
                at += 2;
                while let len @ 1.. = usize::from(*gif.get(at)?) {
                    at += 1 + len;
                }
                at += 1;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let padding = &[0][..content.len() % 2];
        [&name[..], &(content.len() as u32).to_le_bytes(), content, padding].concat()
    }

    fn animated(width: u32, height: u32, chunks: &[u8]) -> Vec<u8> {
        let [w, h] = [width - 1, height - 1].map(u32::to_le_bytes);
        chunk(b"ANMF", &[&[0; 6][..], &w[..3], &h[..3], &[0; 4], chunks].concat())
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
        let animated = |frame: Vec<u8>| animated(40, 30, &frame);
        let other = || chunk(b"EXIF", b"odd");
        for (w, h, fits) in [(40, 30, true), (1, 1, true), (41, 30, false), (40, 31, false), (16_383, 16_383, false)] {
            assert_eq!(check(&[other(), lossy(w, h)]), fits);
            assert_eq!(check(&[other(), lossless(w.into(), h.into())]), fits);
            // What an animated frame holds is as large as the frame.
            let whole = (w, h) == (40, 30);
            assert_eq!(check(&[animated(lossy(40, 30)), animated(lossy(w, h))]), whole);
            assert_eq!(check(&[animated([chunk(b"ALPH", b"abc"), lossy(w, h)].concat())]), whole);
            assert_eq!(check(&[animated(lossless(w.into(), h.into()))]), whole);
            assert_eq!(check(&[super::tests::animated(w.into(), h.into(), &lossy(w, h))]), fits);
        }
        // A frame's alpha is followed by a lossy frame.
        for behind in [chunk(b"XXXX", b"abcdefghij"), lossless(40, 30), chunk(b"ALPH", b"abc")] {
            assert!(!check(&[animated([chunk(b"ALPH", b"abc"), behind].concat())]));
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
                assert_eq!(check_tags(&file(little, kind, count), 1 << 30).is_ok(), fits, "{kind} {count}");
            }
            let whole = file(little, 4, u32::MAX);
            assert!(check_tags(&whole, 1 << 30).is_err());
            (0..30).for_each(|len| assert!(check_tags(&whole[..len], 1 << 30).is_ok(), "{len}"));
        }
    }
}
