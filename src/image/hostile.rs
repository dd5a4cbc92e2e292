//! Small files that claim to be large, and damaged ones that look whole.

use std::fs;

use super::tests::path;
use super::*;
use crate::source::Blob;

fn read(name: &str) -> Vec<u8> {
    fs::read(path(&format!("inputs/{name}"))).unwrap()
}

fn decode(options: DecodeOptions, bytes: &[u8]) -> Result<Image> {
    options.decode(&Blob::new(bytes.to_vec(), "hostile"))
}

/// The kind of the error, and all that it says.
fn refusal(bytes: &[u8]) -> (ErrorKind, String) {
    let error = decode(DecodeOptions::new(), bytes).expect_err("the file is refused");
    (error.kind(), format!("{error}: {error:?}"))
}

/// A TIFF file of one image: tags with their types (3 for two bytes, 4 for four) and values, and data of one strip or tile.
fn tiff(tags: &[(u16, u16, &[u32])], is_tiled: bool, data: &[u8]) -> Vec<u8> {
    let (offsets, counts) = if is_tiled { (324, 325) } else { (273, 279) };
    let place = [8_u32];
    let count = [data.len() as u32];
    let mut tags = [tags, &[(offsets, 4, &place), (counts, 4, &count)]].concat();
    tags.sort_by_key(|tag| tag.0);
    let directory = 8 + data.len() as u32;
    let mut behind = directory + 2 + 12 * tags.len() as u32 + 4;
    let mut file = [&b"II\x2a\0"[..], &directory.to_le_bytes(), data, &(tags.len() as u16).to_le_bytes()].concat();
    let mut long = Vec::new();
    for (tag, kind, values) in tags {
        let of = |value: &u32| if kind == 3 { value.to_le_bytes()[..2].to_vec() } else { value.to_le_bytes().to_vec() };
        let mut bytes: Vec<u8> = values.iter().flat_map(of).collect();
        file.extend([&tag.to_le_bytes()[..], &kind.to_le_bytes(), &(values.len() as u32).to_le_bytes()].concat());
        if bytes.len() <= 4 {
            bytes.resize(4, 0);
            file.extend(bytes);
        } else {
            file.extend(behind.to_le_bytes());
            behind += bytes.len() as u32;
            long.extend(bytes);
        }
    }
    [file, vec![0; 4], long].concat()
}

#[test]
fn rows_of_a_tiff_that_take_more_than_the_limit_are_refused() {
    const ONE: &[u32] = &[1];
    let unspecified = [0; 1000];
    let size: [(u16, u16, &[u32]); 2] = [(256, 4, ONE), (257, 4, ONE)];
    let many = [(258, 3, &[8][..]), (262, 3, &[2]), (277, 3, &[1003]), (338, 3, &unspecified)];
    let floats = [(258, 3, &[32][..]), (262, 3, &[2]), (277, 3, &[3]), (317, 3, &[3]), (339, 3, &[3])];
    let tile = [(322, 4, &[u32::MAX][..]), (323, 4, ONE)];
    // One pixel, of 1,000 channels that nobody knows, in a tile of 4 TB.
    let (kind, message) = refusal(&tiff(&[&size[..], &many, &tile].concat(), true, &[1; 8]));
    assert!(kind == ErrorKind::Format && message.contains("1000 channels beside the colours"), "{message}");
    // The same without the channels, but floats that are to be put together from their parts.
    let (kind, message) = refusal(&tiff(&[&size[..], &floats, &tile].concat(), true, &[1; 8]));
    assert!(kind == ErrorKind::Limit && message.contains("take 51539607540 bytes"), "{message}");
    // A wide strip.
    let wide: [(u16, u16, &[u32]); 2] = [(256, 4, &[1 << 27]), (257, 4, ONE)];
    let channels = [(258, 3, &[8][..]), (262, 3, &[2]), (277, 3, &[11]), (338, 3, &unspecified[..8])];
    let (kind, message) = refusal(&tiff(&[&wide[..], &channels].concat(), false, &[1; 8]));
    assert!(kind == ErrorKind::Limit && message.contains("the limit is 1073741824"), "{message}");
    // A tile that is wider than its image is not refused for that, nor a channel beside the colours.
    let tile = [(322, 4, &[16][..]), (323, 4, ONE)];
    let rgba = [(258, 3, &[8][..]), (262, 3, &[2]), (277, 3, &[4]), (338, 3, &[2])];
    let image = decode(DecodeOptions::new(), &tiff(&[&size[..], &rgba, &tile].concat(), true, &[7; 64])).unwrap();
    assert_eq!((image.height, image.width, image.pixels()), (1, 1, &[7, 7, 7][..]));
}

#[test]
fn a_jpeg_within_a_tiff_is_not_read() {
    let jpeg = read("jpeg_444_q95.jpg");
    for compression in [6, 7] {
        let compression = [compression];
        let tags: &[(u16, u16, &[u32])] =
            &[(256, 3, &[40]), (257, 3, &[30]), (258, 3, &[8]), (259, 3, &compression), (262, 3, &[2]), (277, 3, &[3])];
        let (kind, message) = refusal(&tiff(tags, false, &jpeg));
        assert!(kind == ErrorKind::Format && message.contains("compressed as JPEG"), "{message}");
    }
}

#[test]
fn floats_of_a_tiff_are_cut_off_at_black_and_white() {
    let floats: Vec<u8> = [-1.0_f32, 0.5, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tags: &[(u16, u16, &[u32])] =
        &[(256, 3, &[1]), (257, 3, &[1]), (258, 3, &[32]), (262, 3, &[2]), (277, 3, &[3]), (339, 3, &[3])];
    assert_eq!(decode(DecodeOptions::new(), &tiff(tags, false, &floats)).unwrap().pixels(), [0, 128, 255]);
}

#[test]
fn a_pnm_of_no_brightness_is_refused() {
    for file in [&b"P2 1 1 0 0"[..], b"P3 1 1 0 0 0 0", b"P5 1 1 0\n\0", b"P6 1 1 0\n\0\0\0"] {
        assert_eq!(refusal(file).0, ErrorKind::Format);
    }
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&name[..], &(content.len() as u32).to_le_bytes(), content, &[0][..content.len() % 2]].concat()
}

fn webp(chunks: &[u8]) -> Vec<u8> {
    [&b"RIFF"[..], &(chunks.len() as u32 + 4).to_le_bytes(), b"WEBP", chunks].concat()
}

#[test]
fn an_animated_frame_holds_what_its_header_says() {
    // The part of a small lossy file that is the frame; its extents are made the largest there are.
    let file = read("webp_lossy.webp");
    let at = file.windows(4).position(|name| name == b"VP8 ").unwrap();
    let mut frame = file[at + 8..].to_vec();
    frame[6..10].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    for (name, expected) in
        [(b"XXXX", "a chunk `XXXX` behind the alpha"), (b"VP8 ", "16383 x 16383 pixels in an animated")]
    {
        let inner = [&[0; 16][..], &chunk(b"ALPH", &[0, 9]), &chunk(name, &frame)].concat();
        let header = chunk(b"VP8X", &[0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let file = webp(&[header, chunk(b"ANIM", &[0; 6]), chunk(b"ANMF", &inner)].concat());
        let (kind, message) = refusal(&file);
        assert!(kind == ErrorKind::Format && message.contains(expected), "{message}");
    }
}

#[test]
fn what_stands_behind_a_webp_is_not_looked_at() {
    for name in ["webp_lossy.webp", "webp_lossless.webp", "webp_animated.webp", "webp_lossy_alpha.webp"] {
        let file = read(name);
        let followed = [&file[..], b"JUNK\xff\xff\xff\xff and more"].concat();
        let image = decode(DecodeOptions::new(), &followed).unwrap();
        assert_eq!(image, decode(DecodeOptions::new(), &file).unwrap(), "{name}");
    }
}

#[test]
fn a_frame_of_a_gif_is_held_to_the_limits() {
    // A canvas of 1 x 1, an extension, and a frame of 16,000 x 16,000.
    let canvas = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff\x21\xf9\x04\0\0\0\0\0";
    let frame = |extent: u16| {
        let [low, high] = extent.to_le_bytes();
        [&canvas[..], &[0x2c, 0, 0, 0, 0, low, high, low, high, 0, 2, 2, 0x44, 1, 0, 0x3b]].concat()
    };
    let (kind, message) = refusal(&frame(16_000));
    assert!(kind == ErrorKind::Limit && message.contains("16000 x 16000 pixels"), "{message}");
    let image = decode(DecodeOptions::new(), &frame(1)).unwrap();
    assert_eq!((image.height, image.width), (1, 1));
    let error = decode(DecodeOptions::new().limit_pixels(99), &frame(10)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}
