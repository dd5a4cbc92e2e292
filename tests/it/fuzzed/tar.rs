//! Any bytes, taken for a tar archive, with right checksums too, are samples that lie within it, or an error; where a
//! trivial reader knows what they mean, it is the same samples.

use procession::source::{TarIndex, TarOptions, TarShards};
use procession::{ErrorKind, Sequence};

const BLOCK: usize = 512;

/// A sample of a trivial reader: the key, and extension, start and length of each field.
type Plain = (String, Vec<(String, usize, usize)>);

/// Reads plain archives in the plainest way: files of ustar with names and octal numbers, up to a block of zeros or the
/// end. `None` where there is anything else, behind the zeros too.
fn read(bytes: &[u8]) -> Option<Vec<Plain>> {
    let mut samples: Vec<Plain> = Vec::new();
    let mut at = 0;
    while at < bytes.len() && bytes[at..].iter().take(BLOCK).any(|&byte| byte != 0) {
        let header = bytes.get(at..at + BLOCK)?;
        let octal = |field: &[u8]| {
            let digits = field.strip_suffix(b"\0").or(field.strip_suffix(b"\0 "))?;
            let is_octal = !digits.is_empty() && digits.iter().all(|digit| (b'0'..=b'7').contains(digit));
            is_octal.then(|| digits.iter().fold(0_usize, |number, digit| number * 8 + usize::from(digit - b'0')))
        };
        let text = |field: &[u8]| {
            let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec()).ok()
        };
        let sum: usize =
            header.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { 32 } else { usize::from(b) }).sum();
        if octal(&header[148..156])? != sum || header[156] != b'0' || &header[257..265] != b"ustar\x0000" {
            return None;
        }
        let (name, prefix, len) = (text(&header[..100])?, text(&header[345..500])?, octal(&header[124..136])?);
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let start = at + BLOCK;
        bytes.get(start..start + len)?;
        at = start + len.div_ceil(BLOCK) * BLOCK;

        let (folder, base) = name.rsplit_once('/').map_or(("", &*name), |(folder, base)| (folder, base));
        if name.starts_with("__") || base.is_empty() {
            return None;
        }
        let Some((stem, extension)) = base.split_once('.').filter(|(stem, _)| !stem.is_empty()) else { continue };
        let key = if name.contains('/') { format!("{folder}/{stem}") } else { stem.to_owned() };
        let field = (extension.to_lowercase(), start, len);
        match samples.last_mut().filter(|(last, _)| *last == key) {
            Some((_, fields)) if fields.iter().any(|(extension, ..)| *extension == field.0) => return None,
            Some((_, fields)) => fields.push(field),
            None => samples.push((key, vec![field])),
        }
    }
    let is_over = bytes.get(at..).unwrap_or_default().iter().all(|&byte| byte == 0);
    (!bytes.is_empty() && is_over).then_some(samples)
}

/// The samples of an index in the form of the trivial reader.
fn plain(index: &TarIndex) -> Vec<Plain> {
    let field = |field: procession::source::TarField<'_>| {
        let range = field.range();
        (field.extension().to_owned(), range.start as usize, (range.end - range.start) as usize)
    };
    index.entries().map(|entry| (entry.key().to_owned(), entry.fields().map(field).collect())).collect()
}

pub(crate) fn check(bytes: &[u8]) {
    check_one(bytes);
    check_one(&with_checksums(bytes));
}

fn check_one(bytes: &[u8]) {
    let understood = read(bytes);
    let open = |options: TarOptions| options.from_bytes(bytes.to_vec(), "fuzzed");
    let shards = match open(TarShards::options().allow_unterminated(true)) {
        Ok(shards) => shards,
        Err(error) => {
            assert_eq!(understood, None, "{error}");
            assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Limit), "{error}");
            assert!(error.to_string().contains("fuzzed"), "{error} names the file");
            return;
        }
    };
    let index = shards.shards().next().expect("there is one").1;
    assert_eq!(open(TarShards::options()).is_ok(), index.is_terminated());
    if let Some(understood) = understood {
        assert_eq!(plain(index), understood);
    }
    for number in 0..shards.len() {
        let sample = shards.get(number).expect("a sample is a place");
        let places = index.entry(number).fields();
        assert!(sample.fields().len() > 0);
        for (blob, place) in sample.fields().zip(places) {
            let range = place.range();
            assert_eq!(blob.bytes(), &bytes[range.start as usize..range.end as usize]);
            assert_eq!(sample.field(place.extension()).expect("it is there"), blob);
            assert!(place.member().to_lowercase().ends_with(place.extension()));
        }
        // What is no label is an error, and no panic.
        let _ = (sample.label(), sample.text("txt"), shards.file(number), shards.size_bytes(number));
    }
    let kept = index.to_bytes(b"version");
    assert_eq!(&TarIndex::from_bytes(&kept, bytes.len() as u64, b"version").expect("what was kept is read"), index);
    assert!(index.passed_over().len() as u64 <= index.num_passed_over());
    // Each member has a header of its own.
    let num_members = index.num_passed_over() + plain(index).iter().map(|(_, fields)| fields.len() as u64).sum::<u64>();
    assert!(num_members * BLOCK as u64 <= bytes.len() as u64);
}

/// The bytes with the checksums that they ought to have, header by header, as far as sizes lead.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + BLOCK).filter(|header| header.iter().any(|&byte| byte != 0)) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let digits = header[124..136].iter().take_while(|digit| (b'0'..=b'7').contains(digit));
        let len = digits.fold(0_usize, |number, digit| number * 8 + usize::from(digit - b'0'));
        at += BLOCK + len.div_ceil(BLOCK) * BLOCK;
    }
    bytes
}
