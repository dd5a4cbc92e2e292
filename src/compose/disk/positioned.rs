//! Reading and writing at a place of a file, from many threads at once: what Unix and Windows call by different names.

use std::fs::File;
use std::io;

#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;

#[cfg(not(any(unix, windows)))]
compile_error!("the feature `disk-cache` needs a system that reads and writes at a place of a file: Unix or Windows");

#[cfg(unix)]
fn read_some(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    file.read_at(bytes, at)
}

#[cfg(unix)]
fn write_some(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    file.write_at(bytes, at)
}

// These move the file's own place, which nothing here looks at.
#[cfg(windows)]
fn read_some(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(bytes, at)
}

#[cfg(windows)]
fn write_some(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    file.seek_write(bytes, at)
}

/// Reads until there are as many bytes as asked for, or the file ends. Returns how many were read.
pub(super) fn read_up_to(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match read_some(file, &mut bytes[done..], at + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(done)
}

/// Reads as many bytes as asked for. That there are fewer is an error.
pub(super) fn read(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    if read_up_to(file, bytes, at)? == bytes.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Writes all bytes.
pub(super) fn write(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match write_some(file, &bytes[done..], at + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_and_read_where_they_belong() {
        let file = tempfile::tempfile().unwrap();
        write(&file, b"cd", 2).unwrap();
        write(&file, b"ab", 0).unwrap();
        let mut bytes = [0; 4];
        read(&file, &mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"abcd");
        assert_eq!(read_up_to(&file, &mut bytes, 3).unwrap(), 1);
        assert_eq!(read(&file, &mut bytes, 3).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        read(&file, &mut [], 100).unwrap();
    }
}
