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

/// Where the data of the first scan begin.
fn data_of(jpeg: &[u8]) -> usize {
    let scan = jpeg.windows(2).position(|marker| marker == [0xff, 0xda]).unwrap();
    scan + 2 + usize::from(u16::from_be_bytes([jpeg[scan + 2], jpeg[scan + 3]]))
}

/// Those with one scan, by their names.
fn sequential() -> impl Iterator<Item = (String, Vec<u8>)> {
    let names = fs::read_dir(path("inputs")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let jpegs = names.filter(|name| name.starts_with("jpeg_") && !name.contains("orientation"));
    let files = jpegs.map(|name| (name.clone(), read(&name)));
    files.filter(|(_, jpeg)| jpeg.windows(2).any(|marker| marker == [0xff, 0xc0]))
}

fn strict_and_grey() -> [DecodeOptions; 2] {
    [DecodeOptions::new(), DecodeOptions::new().grey(true)]
}

#[test]
fn a_marker_among_the_data_of_a_jpeg_is_damage() {
    let mut num_refused = 0;
    for (name, whole) in sequential() {
        let start = data_of(&whole);
        let stuffed: Vec<_> = (start..whole.len() - 1).filter(|&at| whole[at..at + 2] == [0xff, 0]).collect();
        for (options, at) in
            strict_and_grey().into_iter().flat_map(|options| stuffed.iter().map(move |&at| (options, at)))
        {
            for marker in [0x01, 0xc0, 0xc4, 0xd0, 0xd3, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xe0, 0xe1, 0xef, 0xfe] {
                let mut damaged = whole.clone();
                damaged[at + 1] = marker;
                match decode(options, &damaged) {
                    // The bits that make the last byte whole are no data.
                    Ok(image) => assert_eq!(image, decode(options, &whole).unwrap(), "{name} {at} {marker:x}"),
                    Err(_) => num_refused += 1,
                }
                // With what can be read.
                decode(options.lenient(true), &damaged).ok();
            }
        }
    }
    assert!(num_refused > 200, "{num_refused}");
}

#[test]
fn a_jpeg_whose_data_are_cut_off_is_damaged_also_with_an_end_marker() {
    for (name, whole) in sequential() {
        let start = data_of(&whole);
        for options in strict_and_grey() {
            let image = decode(options, &whole).unwrap();
            let last = whole.len() - 2;
            for at in (start..last).step_by(17).chain(last - 4..last) {
                let ended = [&whole[..at], &[0xff, 0xd9]].concat();
                match decode(options, &ended) {
                    // In the last byte are bits that are no data, and no code may follow the last number.
                    Ok(other) => {
                        let upper = if image.height > 16 { image.pixels.len() / 2 } else { 0 };
                        let is_same = other.pixels[..upper] == image.pixels[..upper];
                        assert!(is_same && at + 3 >= last, "{name} cut off at {at}");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Format),
                }
            }
            let half = [&whole[..start.midpoint(whole.len())], &[0xff, 0xd9]].concat();
            // The upper part as it was, the rest in one colour.
            let lenient = decode(options.lenient(true), &half).unwrap();
            assert_eq!(lenient.pixels.len(), image.pixels.len());
        }
    }
}

#[test]
fn restart_markers_of_a_jpeg_come_in_their_order_and_number() {
    let whole = read("jpeg_no_jfif_restart.jpg");
    let start = data_of(&whole);
    let is_restart = |at: &usize| whole[*at] == 0xff && (0xd0..=0xd7).contains(&whole[at + 1]);
    let restarts: Vec<_> = (start..whole.len() - 1).filter(is_restart).collect();
    assert!(restarts.len() > 4, "{restarts:?}");
    let image = decode(DecodeOptions::new(), &whole).unwrap();
    for pair in restarts.windows(2) {
        // Without what stands between two of them, and with the number of one changed.
        let cut = [&whole[..pair[0]], &whole[pair[1]..]].concat();
        assert!(decode(DecodeOptions::new(), &cut).is_err());
        let mut changed = whole.clone();
        changed[pair[0] + 1] ^= 1;
        assert!(decode(DecodeOptions::new(), &changed).is_err());
    }
    // Fill bytes before a marker, and remarks behind the data, are no damage; nor is another image behind the end.
    let end = whole.len() - 2;
    let remark = [0xff, 0xfe, 0, 4, 0xff, 0xd9];
    let odd =
        [&whole[..restarts[0]], &[0xff, 0xff], &whole[restarts[0]..end], &remark, &[0xff, 0xff, 0xd9], &whole].concat();
    assert_eq!(decode(DecodeOptions::new(), &odd).unwrap(), image);
}

#[test]
fn a_jpeg_that_has_colours_of_its_own_becomes_grey() {
    for name in ["jpeg_rgb_adobe.jpg", "jpeg_ycck_420.jpg", "jpeg_cmyk_no_adobe.jpg"] {
        let [colour, grey] = strict_and_grey().map(|options| decode(options, &read(name)).unwrap());
        assert_eq!(grey, colour.to_grey(), "{name}");
    }
}

#[test]
fn a_jpeg_of_two_components_is_refused() {
    let mut jpeg = read("jpeg_444_q95.jpg");
    let scan = data_of(&jpeg) - 14;
    assert_eq!(jpeg[scan..scan + 5], [0xff, 0xda, 0, 12, 3]);
    // The third component of the scan, and then of the frame.
    jpeg.drain(scan + 9..scan + 11);
    jpeg[scan + 3..scan + 5].copy_from_slice(&[10, 2]);
    let frame = jpeg.windows(4).position(|marker| marker == [0xff, 0xc0, 0, 17]).unwrap();
    jpeg.drain(frame + 16..frame + 19);
    jpeg[frame + 3] = 14;
    jpeg[frame + 9] = 2;
    for lenient in [false, true] {
        let error = decode(DecodeOptions::new().lenient(lenient), &jpeg).unwrap_err();
        assert!(format!("{error:?}").contains("2 components, expected 1, 3 or 4"), "{error:?}");
    }
}

#[test]
fn a_large_photo_is_within_the_limits() {
    let resized = |name: &str, height: u16, width: u16| {
        let mut jpeg = read(name);
        let frame = jpeg.windows(2).position(|marker| matches!(marker, [0xff, 0xc0 | 0xc2])).unwrap();
        jpeg[frame + 5..frame + 9].copy_from_slice(&[height.to_be_bytes(), width.to_be_bytes()].concat());
        Blob::new(jpeg, "large")
    };
    let info = DecodeOptions::new().info(&resized("jpeg_420_q75.jpg", 9_000, 12_000)).unwrap();
    assert_eq!((info.height, info.width), (9_000, 12_000));
    // A progressive one takes two bytes for each component of a pixel on top.
    let within = |name: &str, bytes_per_pixel: u64| {
        let options = DecodeOptions::new().orient(false).limit_bytes(1_000_000 * bytes_per_pixel);
        options.info(&resized(name, 1_000, 1_000)).is_ok()
    };
    assert!(within("jpeg_444_q95.jpg", 4) && !within("jpeg_444_q95.jpg", 2));
    assert!(within("jpeg_progressive_444.jpg", 10) && !within("jpeg_progressive_444.jpg", 8));
}
