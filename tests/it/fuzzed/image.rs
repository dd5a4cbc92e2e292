//! Any bytes, taken for an image file, are an image of the size that the header says, or an error that names the file;
//! and a strict decoder takes nothing that a lenient one sees otherwise.

use procession::ErrorKind;
use procession::image::{DecodeOptions, Filter};
use procession::source::Blob;

/// Small enough for a fuzzer to decode many.
pub(crate) const LIMIT_PIXELS: u64 = 1 << 18;

pub(crate) fn options() -> DecodeOptions {
    DecodeOptions::new().limit_pixels(LIMIT_PIXELS).limit_bytes(1 << 24)
}

/// `options` are [`options`], perhaps with another decoder.
pub(crate) fn check(bytes: &[u8], options: DecodeOptions) {
    let file = Blob::new(bytes.to_vec(), "fuzzed");
    let decoded = options.decode(&file);
    let info = options.info(&file);
    match &decoded {
        Ok(image) => {
            assert_eq!(image.pixels().len(), image.height() * image.width() * 3);
            let info = info.expect("what can be decoded has a header");
            assert_eq!((info.height, info.width), (image.height(), image.width()));
            let lenient =
                options.lenient(true).decode(&file).expect("a lenient decoder takes whatever a strict one takes");
            assert!(lenient == *image);
            let upright = options.orient(false).decode(&file).expect("the orientation decides about nothing else");
            assert_eq!(upright.pixels().len(), image.pixels().len());
            let (height, width) = (image.height().div_ceil(5), image.width().div_ceil(3));
            let small = options.reduced(1).decode_resized(&file, height, width, Filter::Bilinear);
            let small = small.expect("the scale decides about nothing else");
            assert_eq!((small.height(), small.width()), (height, width));
            let narrow = options.limit_pixels((image.height() * image.width()) as u64 - 1);
            assert_eq!(narrow.decode(&file).map_err(|error| error.kind()).err(), Some(ErrorKind::Limit));
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Limit), "{error}");
            assert!(error.to_string().contains("fuzzed"), "{error} names the file");
        }
    }
    if let Ok(grey) = options.grey(true).decode(&file) {
        assert_eq!(grey.pixels().len(), grey.height() * grey.width());
    }
}
