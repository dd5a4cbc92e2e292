use super::*;
use crate::compose::SequenceExt;
use crate::testing::{check_rows, samples};
use ndarray::array;

const TEXT: &str = "x,y,name,on\n1.5,2,\"a, b\",true\n-3,4e2,\"two\nlines\",0\n\n5,,größe,1\n";

fn open(bytes: impl Into<Vec<u8>>) -> Result<Csv> {
    Csv::from_bytes(bytes.into(), "the-file")
}

fn error_of<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.file(), Some(Path::new("the-file")), "{error}");
    error.message().to_owned()
}

#[test]
fn columns_of_all_types_keep_the_contract() {
    let csv = open(TEXT).unwrap();
    check_rows(&csv.column::<f32>("x").unwrap());
    check_rows(&csv.column::<f64>("y").unwrap().missing(7.0));
    check_rows(&csv.column::<u64>("on").unwrap().subset([1, 2]).unwrap());
    check_rows(&csv.column::<String>("name").unwrap());
    check_rows(&csv.column::<bool>("on").unwrap());
    check_rows(&csv.columns::<f32>(["y", "x"]).unwrap().missing(0.5));
    check_rows(&csv.columns::<bool>(["on"]).unwrap());
    check_rows(&csv.columns::<f64>([""; 0]).unwrap());
    check_rows(&open("x\n").unwrap().column::<f32>("x").unwrap());
}

#[test]
fn values_are_those_of_the_file() {
    let csv = open(TEXT).unwrap();
    assert!(csv.names().eq(["x", "y", "name", "on"]));
    assert_eq!((csv.num_rows(), csv.path()), (3, Path::new("the-file")));
    assert_eq!(samples(&csv.column::<f64>("x").unwrap()), [1.5, -3.0, 5.0]);
    assert_eq!(samples(&csv.column::<String>("name").unwrap()), ["a, b", "two\nlines", "größe"]);
    assert_eq!(samples(&csv.column::<String>("y").unwrap()), ["2", "4e2", ""]);
    assert_eq!(samples(&csv.column::<String>("y").unwrap().missing("?".to_owned()))[2], "?");
    assert_eq!(samples(&csv.column::<bool>("on").unwrap()), [true, false, true]);
    let rows = csv.columns::<f32>(["y", "x", "y"]).unwrap().missing(-1.0);
    assert_eq!(samples(&rows), [array![2.0, 1.5, 2.0], array![400.0, -3.0, 400.0], array![-1.0, 5.0, -1.0]]);
    assert_eq!((rows.layout(), rows.size_bytes(0), rows.file(0)), (Some(Ix1(3)), Some(12), Some("the-file".into())));
}

#[test]
fn other_delimiters_and_no_header() {
    let options = Csv::options().delimiter(b'\t').header(false);
    let csv = options.from_bytes(&b"1\t2,5\r\n3\t4\r\n"[..], "the-file").unwrap();
    assert!(csv.names().eq(["0", "1"]));
    assert_eq!(samples(&csv.column::<u8>("0").unwrap()), [1, 3]);
    assert_eq!(csv.column::<String>("1").unwrap().get(0).unwrap(), "2,5");
    assert_eq!(options.from_bytes(&b""[..], "the-file").unwrap().num_rows(), 0);
    for delimiter in [b'"', b'\n', b'\r', 0x80, 0xff] {
        let error = Csv::options().delimiter(delimiter).from_bytes(&b"a"[..], "the-file").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
    }
}

#[test]
fn tables_with_other_delimiters_are_read_in_turn_on_one_thread() {
    let commas = open("x,y\n1,2;3\n").unwrap().column::<String>("y").unwrap();
    let semicolons = Csv::options().delimiter(b';').from_bytes(&b"x;y\n1;2,3\n"[..], "other").unwrap();
    let semicolons = semicolons.column::<String>("y").unwrap();
    for _ in 0..2 {
        assert_eq!((commas.get(0).unwrap(), semicolons.get(0).unwrap()), ("2;3".to_owned(), "2,3".to_owned()));
    }
}

#[test]
fn what_cannot_be_read_is_named_with_line_and_column() {
    let csv = open(TEXT).unwrap();
    let error = csv.column::<f32>("name").unwrap().get(1).unwrap_err();
    let expected = "column \"name\" of the row from line 3 on is \"two\\nlines\", expected a number of type f32 \
                    (index 1, file the-file)";
    assert_eq!((error.to_string().as_str(), error.kind()), (expected, ErrorKind::Format));
    let expected = "column \"y\" of the row from line 6 on is empty, expected a number of type f32, or a value for what is \
                    missing";
    assert_eq!(error_of(csv.column::<f32>("y").unwrap().get(2)), expected);
    let rows = csv.columns::<f32>(["x", "y"]).unwrap();
    assert_eq!(error_of(rows.get(2)), expected);
    assert_eq!(error_of(rows.get_into(2, &mut [0.0; 2])), expected);
    let expected = "column \"y\" of the row from line 3 on is \"4e2\", expected a number of type i32";
    assert_eq!(error_of(csv.column::<i32>("y").unwrap().get(1)), expected);
    let expected = "column \"x\" of the row from line 2 on is \"1.5\", expected true or false";
    assert_eq!(error_of(csv.column::<bool>("x").unwrap().get(0)), expected);
    let long = open(format!("x\n{}\n", "ab".repeat(1000))).unwrap().column::<f32>("x").unwrap();
    assert!(error_of(long.get(0)).ends_with("abab\".., expected a number of type f32"));
    let latin = open(&b"x,y\n1,gr\xf6\xdfe\n"[..]).unwrap();
    let expected = "column \"y\" of the row from line 2 on is not UTF-8, expected text";
    assert_eq!(error_of(latin.column::<String>("y").unwrap().get(0)), expected);
    assert_eq!(latin.column::<f32>("x").unwrap().get(0).unwrap(), 1.0);
}

#[test]
fn columns_that_are_not_there_are_refused() {
    let csv = open(TEXT).unwrap();
    let expected = "no column \"z\", expected one of x, y, name, on";
    assert_eq!(error_of(csv.column::<f32>("z")), expected);
    assert_eq!(error_of(csv.columns::<f32>(["x", "z"])), expected);
    assert_eq!(csv.column::<f32>("z").unwrap_err().kind(), ErrorKind::Argument);
    let twice = open("a,b,a\n1,2,3\n").unwrap();
    assert_eq!(error_of(twice.column::<f32>("a")), "columns 0 and 2 are both named \"a\", expected one");
    assert_eq!(twice.column::<f32>("b").unwrap().get(0).unwrap(), 2.0);
    let wide: Vec<String> = (0..30).map(|column| column.to_string()).collect();
    assert!(error_of(open(wide.join(",")).unwrap().column::<f32>("x")).ends_with("18, 19 and others"));
}

#[test]
fn bad_files_are_refused() {
    for (bytes, expected) in [
        (&b""[..], "no row in the file, expected the names of the columns"),
        (b"\n\r\n", "no row in the file, expected the names of the columns"),
        (b"\xef\xbb\xbf", "no row in the file, expected the names of the columns"),
        (b"a,\xff\n", "name of column 1 is not UTF-8, expected text"),
        (b"a,b\n1,2\n3\n", "row from line 3 on has 1 fields, expected 2 as the first has"),
        (b"a,b\n1,2,3\n", "row from line 2 on has 3 fields, expected 2 as the first has"),
        (
            b"a,b\n1,2\n\"3,4\n",
            "quote of the field from line 3 on is not closed, expected another before the end of the file",
        ),
        (
            b"a,b\n1,\"2\n3,4\n5,6\n",
            "quote of the field from line 2 on is not closed, expected another before the end of the file",
        ),
    ] {
        let error = open(bytes).unwrap_err();
        assert_eq!((error.message(), error.kind()), (expected, ErrorKind::Format));
        assert_eq!(error.file(), Some(Path::new("the-file")));
    }
    let error = Csv::options().limit_bytes(8).from_bytes(&b"a,b\n1,\"2\n3,4\n"[..], "the-file").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn every_cut_and_every_flipped_bit_gives_a_table_or_an_error() {
    let check = |bytes: Vec<u8>, what: &str| {
        let Ok(csv) = open(bytes) else { return };
        for name in csv.names() {
            // Names may be the same now.
            let Ok(column) = csv.column::<String>(name) else { continue };
            assert_eq!(column.len(), csv.num_rows());
            for index in 0..column.len() {
                let is_named = column.get(index).map_or_else(|error| error.file().is_some(), |_| true);
                assert!(is_named, "{what}");
            }
        }
    };
    let whole = TEXT.as_bytes();
    (0..whole.len()).for_each(|len| check(whole[..len].to_vec(), &format!("cut at {len}")));
    for bit in 0..8 * whole.len() {
        let mut flipped = whole.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        check(flipped, &format!("bit {bit}"));
    }
}

#[test]
fn a_file_is_mapped_or_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.csv");
    std::fs::write(&path, TEXT).unwrap();
    let csv = Csv::open(&path).unwrap();
    assert_eq!(csv.column::<f32>("x").unwrap().file(0), Some(path.clone()));
    drop(csv);
    let csv = Csv::options().in_memory(true).open(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    assert_eq!(samples(&csv.column::<f64>("x").unwrap()), [1.5, -3.0, 5.0]);
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let error = Csv::open(&path).unwrap_err();
        assert_eq!((error.kind(), error.file()), (ErrorKind::Io, Some(&*path)));
    }
}

#[test]
fn classes_are_numbered_as_their_names_are_given() {
    let csv = open("animal,n\ndog,1\n \"cat\" ,2\n\"cat \",3\nDog,4\n,5\n").unwrap();
    let labels = csv.labels("animal", ["dog", "cat", "cow"]).unwrap();
    check_rows(&labels.clone().subset([0, 2]).unwrap());
    assert_eq!((labels.get(0).unwrap(), labels.get(2).unwrap(), labels.classes().len()), (0, 1, 3));
    // The quotes in the second one do not begin the field, so that they belong to it.
    for (index, text) in [(1, r#"" \"cat\" ""#), (3, "\"Dog\""), (4, "\"\"")] {
        let error = labels.get(index).unwrap_err();
        let line = index + 2;
        let expected = format!(
            "column \"animal\" of the row from line {line} on is {text}, expected a class, one of dog, cat, cow"
        );
        assert_eq!((error.message(), error.kind(), error.index()), (&*expected, ErrorKind::Format, Some(index as u64)));
    }
    assert_eq!(error_of(csv.labels("animal", ["a", "b", "a"])), "two classes are named \"a\", expected one");
    assert_eq!(error_of(csv.labels("animal", [""; 0])), "no names of classes, expected at least one");
    assert_eq!(error_of(csv.labels("z", ["a"])), "no column \"z\", expected one of animal, n");
}

#[test]
fn a_wrong_field_far_behind_is_named_at_once() {
    let text = format!("x\r{}", "y\r".repeat(200_000));
    let column = open(text).unwrap().column::<f32>("x").unwrap();
    for index in (190_000..200_000).step_by(100) {
        let expected = format!("column \"x\" of the row from line {} on is \"y\"", index + 2);
        assert!(error_of(column.get(index)).starts_with(&expected));
    }
}
