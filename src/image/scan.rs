//! What a JPEG file is made of, as far as a strict reader has to know it: its frame, and where the data of its scan end.
//!
//! The decoder takes the first marker for the end of the image, wherever it stands, and leaves the rest black; and where the
//! data end too early, it goes on with zeros. Both happen if a file is damaged or cut off, so the data of a scan are walked
//! through before they are decoded. Only restart markers may stand among them, in their order and in their number. Behind
//! them the decoder is given ones instead of what stands there: no code of a JPEG consists of ones alone (T.81, annex C),
//! so that it stops with an error if it needs more than there is.
//!
//! What remains undetected: damage that leaves data of a valid form, which are then other coefficients; between two restart
//! markers, fewer of them; and at the very end up to 16 bits, if they were the last coefficient's own. In progressive files,
//! and in those whose components come one after the other, there are markers between the scans, of which none can be told
//! from one that damage made: there, only an end marker is asked for.
//!
//! Source: ITU-T T.81 (<https://www.w3.org/Graphics/JPEG/itu-t81.pdf>), sections B.2 and F.2.2.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

const END: u8 = 0xd9;

/// More ones than the longest code together with the longest number behind a code (16 bits each), in bytes of a scan's data.
const ONES: [u8; 12] = [0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0, 0xff, 0];

/// What stands before the data of the first scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) num_components: usize,
    /// Whether the frame is sequential and its first scan has all of the components, so that it is the only one.
    has_one_scan: bool,
    /// The largest sampling factors, and the sum of their products: the blocks in a unit of several components.
    largest: [usize; 2],
    num_blocks: usize,
    /// The units between two restart markers; 0 if there are none.
    restart_interval: usize,
    data_start: usize,
}

impl Outline {
    /// Reads everything up to the first scan. `None` if it is not there.
    pub(super) fn of(jpeg: &[u8]) -> Option<Self> {
        let mut frame: Option<Self> = None;
        let (mut at, mut restart_interval) = (2, 0);
        loop {
            let marker;
            (marker, at) = next_marker(jpeg, at)?;
            let segment = segment(jpeg, at)?;
            at += 2 + segment.len();
            match (marker, segment) {
                // Baseline, extended and progressive.
                (0xc0..=0xc2, &[_, h0, h1, w0, w1, num_components, ref components @ ..]) => {
                    let factors = || components.chunks_exact(3).map(|c| [c[1] >> 4, c[1] & 15].map(usize::from));
                    frame = Some(Self {
                        width: u16::from_be_bytes([w0, w1]).into(),
                        height: u16::from_be_bytes([h0, h1]).into(),
                        num_components: num_components.into(),
                        has_one_scan: marker != 0xc2,
                        largest: factors().fold([1, 1], |[h, v], [h2, v2]| [h.max(h2), v.max(v2)]),
                        num_blocks: factors().map(|[h, v]| h * v).sum(),
                        restart_interval: 0,
                        data_start: 0,
                    });
                }
                (0xdd, &[high, low]) => restart_interval = u16::from_be_bytes([high, low]).into(),
                (0xda, &[num_components, ..]) => {
                    let frame = frame?;
                    let has_one_scan = frame.has_one_scan && usize::from(num_components) == frame.num_components;
                    return Some(Self { has_one_scan, restart_interval, data_start: at, ..frame });
                }
                _ => {}
            }
        }
    }

    /// Whether colour is coarser from top to bottom than from left to right. Of such images the decoder cannot tell grey by
    /// itself without reading more data than there are.
    pub(super) fn is_tall(&self) -> bool {
        self.largest[1] > self.largest[0]
    }

    /// How many units the data consist of: blocks of one component, or the blocks of all that show the same pixels.
    fn num_units(&self) -> usize {
        let [h, v] = if self.num_components == 1 { [1, 1] } else { self.largest };
        self.width.div_ceil(8 * h) * self.height.div_ceil(8 * v)
    }

    /// The most bytes that the decoder needs beside the pixels: a few lines of blocks, and, if there are several scans, the
    /// coefficients of all components until the last one is read, two bytes each.
    pub(super) fn working_bytes(&self) -> u64 {
        let [h, v] = self.largest;
        let across = self.width.div_ceil(8 * h);
        let down = self.height.div_ceil(8 * v);
        let line_bytes = 2 * 64 * (across * self.num_blocks.max(h * v)) as u64;
        // As they are, and stretched, of this line and of the one before.
        let lines = 4 * line_bytes;
        if self.has_one_scan { lines } else { lines + line_bytes * down as u64 }
    }

    /// The file as the decoder is to have it: with ones behind the data of its only scan.
    ///
    /// # Errors
    ///
    /// What is wrong, if the data do not end as they should.
    pub(super) fn sealed<'a>(&self, jpeg: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        if !self.has_one_scan {
            let rest = jpeg.get(self.data_start..).unwrap_or_default();
            let ends = rest.windows(2).rev().any(|marker| marker == [0xff, END]);
            return if ends { Ok(Cow::Borrowed(jpeg)) } else { Err(cut_off()) };
        }
        let end = self.end_of_data(jpeg)?;
        let mut sealed = Vec::with_capacity(end + ONES.len() + 2);
        sealed.extend_from_slice(&jpeg[..end]);
        sealed.extend_from_slice(&ONES);
        sealed.extend_from_slice(&[0xff, END]);
        Ok(Cow::Owned(sealed))
    }

    fn end_of_data(&self, jpeg: &[u8]) -> Result<usize, String> {
        let data = jpeg.get(self.data_start..).unwrap_or_default();
        let mut num_restarts = 0;
        for at in memchr_iter(0xff, data) {
            match data.get(at + 1) {
                // A byte of the data, or one that fills up before a marker.
                Some(0 | 0xff) => {}
                Some(&marker @ 0xd0..=0xd7) if self.restart_interval > 0 => {
                    if usize::from(marker - 0xd0) != num_restarts % 8 {
                        return Err(format!("restart marker {}, expected {}", marker - 0xd0, num_restarts % 8));
                    }
                    num_restarts += 1;
                }
                Some(_) => {
                    check_end(data, at)?;
                    self.check_restarts(num_restarts)?;
                    return Ok(self.data_start + at);
                }
                None => break,
            }
        }
        Err(cut_off())
    }

    fn check_restarts(&self, num_restarts: usize) -> Result<(), String> {
        if self.restart_interval == 0 {
            return Ok(());
        }
        let expected = self.num_units().div_ceil(self.restart_interval) - 1;
        // Some programs write one behind the last units, too.
        let is_one_more = num_restarts == expected + 1 && self.num_units().is_multiple_of(self.restart_interval);
        if num_restarts == expected || is_one_more {
            return Ok(());
        }
        Err(format!("{num_restarts} restart markers, expected {expected}"))
    }
}

/// Checks that nothing but remarks stands between a place behind the data and the end marker.
fn check_end(data: &[u8], mut at: usize) -> Result<(), String> {
    loop {
        let (marker, behind) = next_marker(data, at).ok_or_else(cut_off)?;
        match marker {
            END => return Ok(()),
            // Remarks, of applications and others: not where they belong, but told by their length from what damage made.
            0xe0..=0xef | 0xfe => {
                let segment = segment(data, behind).ok_or_else(cut_off)?;
                at = behind + 2 + segment.len();
                if data.get(at) == Some(&0xff) {
                    continue;
                }
            }
            _ => {}
        }
        return Err(format!("a marker {marker:#04x} among the image's data"));
    }
}

/// The next marker from a place on, and where what follows it begins.
fn next_marker(jpeg: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += memchr(0xff, jpeg.get(at..)?)?;
        at += jpeg[at..].iter().take_while(|&&byte| byte == 0xff).count();
        let marker = *jpeg.get(at)?;
        at += 1;
        if marker != 0 {
            return Some((marker, at));
        }
    }
}

/// What a segment holds behind its length.
fn segment(jpeg: &[u8], at: usize) -> Option<&[u8]> {
    let len = u16::from_be_bytes(*jpeg.get(at..)?.first_chunk()?);
    jpeg.get(at + 2..at + usize::from(len))
}

fn cut_off() -> String {
    "cut off: no end marker after the image's data".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequential file of one component, 80 x 8 pixels, with so many blocks between restart markers.
    fn file(interval: u8, data: &[u8]) -> Vec<u8> {
        let frame = [0xff, 0xc0, 0, 11, 8, 0, 8, 0, 80, 1, 1, 0x22, 0];
        let restart = [0xff, 0xdd, 0, 4, 0, interval];
        let scan = [0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0];
        [&[0xff, 0xd8][..], &frame, &restart, &scan, data].concat()
    }

    fn seal(interval: u8, data: &[u8]) -> Result<Vec<u8>, String> {
        let jpeg = file(interval, data);
        let outline = Outline::of(&jpeg).unwrap();
        assert_eq!((outline.width, outline.height, outline.num_components, outline.num_units()), (80, 8, 1, 10));
        let sealed = outline.sealed(&jpeg)?.into_owned();
        assert_eq!(sealed[..outline.data_start], jpeg[..outline.data_start]);
        Ok(sealed[outline.data_start..].to_vec())
    }

    #[test]
    fn data_end_in_ones() {
        let sealed = |data: &[u8]| Ok([data, &ONES, &[0xff, END]].concat());
        assert_eq!(seal(0, b"abc\xff\0d\xff\xd9"), sealed(b"abc\xff\0d"));
        // Fill bytes, remarks, another image.
        assert_eq!(seal(0, b"abc\xff\xff\xd9\xff\xd8\xff"), sealed(b"abc\xff"));
        assert_eq!(seal(0, b"abc\xff\xe1\0\x04\xff\xd9\xff\xfe\0\x02\xff\xd9"), sealed(b"abc"));
        for (data, cause) in [
            (&b"abc"[..], "cut off: no end marker after the image's data"),
            (b"abc\xff", "cut off: no end marker after the image's data"),
            (b"abc\xff\0\xff\xff", "cut off: no end marker after the image's data"),
            (b"abc\xff\xe1\0\x09\xff\xd9", "cut off: no end marker after the image's data"),
            (b"abc\xff\xe1\0\x02ab\xff\xd9", "a marker 0xe1 among the image's data"),
            (b"abc\xff\xda\0\x02\xff\xd9", "a marker 0xda among the image's data"),
            (b"abc\xff\xd0a\xff\xd9", "a marker 0xd0 among the image's data"),
        ] {
            assert_eq!(seal(0, data).unwrap_err(), cause, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn restart_markers_are_counted() {
        let data = |markers: &[u8]| {
            let data = markers.iter().flat_map(|marker| [7, 0xff, 0xd0 + marker]).chain([7, 0xff, END]);
            data.collect::<Vec<_>>()
        };
        // Ten blocks: nine markers between them, with eight names.
        for (interval, markers, cause) in [
            (1, &[0, 1, 2, 3, 4, 5, 6, 7, 0][..], None),
            (1, &[0, 1, 2, 3, 4, 5, 6, 7, 0, 1], None),
            (1, &[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2], Some("11 restart markers, expected 9")),
            (1, &[0], Some("1 restart markers, expected 9")),
            (1, &[0, 1, 3], Some("restart marker 3, expected 2")),
            (3, &[0, 1, 2], None),
            (3, &[0, 1, 2, 3], Some("4 restart markers, expected 3")),
            (10, &[], None),
            (10, &[0], None),
            (255, &[], None),
            (255, &[0], Some("1 restart markers, expected 0")),
        ] {
            assert_eq!(seal(interval, &data(markers)).err().as_deref(), cause, "{interval} {markers:?}");
        }
    }

    #[test]
    fn what_is_not_whole_has_no_outline() {
        let whole = file(1, b"abc");
        let len = whole.len() - 3;
        assert!((0..len).all(|len| Outline::of(&whole[..len]).is_none()));
        assert!(Outline::of(&whole[..len]).is_some());
        // A scan without a frame.
        assert!(Outline::of(&[&whole[..2], &whole[15..]].concat()).is_none());
    }
}
