//! Reader of IDX files, the format of MNIST and similar datasets, plain or gzipped.

use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use crate::error::{Bound, MediaError, io_error};
use crate::files::open_regular;
use crate::picture::MEGABYTE;

/// Grey pictures of one size, and their labels.
#[derive(Debug, Default)]
pub struct IdxImages {
    /// Height of a picture in pixels.
    pub rows: usize,
    /// Width of a picture in pixels.
    pub columns: usize,
    /// Pixels of all pictures, 0 to 255, each picture row by row.
    pub pixels: Vec<u8>,
    /// A label for each picture.
    pub labels: Vec<u8>,
}

impl IdxImages {
    /// The pixels of a picture, row by row.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn picture(&self, index: usize) -> &[u8] {
        let size = self.rows * self.columns;
        &self.pixels[index * size..(index + 1) * size]
    }

    /// Bytes of pictures and labels.
    pub fn bytes(&self) -> u64 {
        (self.pixels.len() + self.labels.len()) as u64
    }
}

/// Reads a file of pictures and one of labels. Together they may take at most `limit` bytes once unpacked.
///
/// # Errors
/// If a file can't be read, is cut off or of another kind, takes more, or the numbers of pictures and labels differ.
pub fn read_idx(images: &Path, labels: &Path, limit: u64) -> Result<IdxImages, MediaError> {
    let ([count, rows, columns], pixels) = read_file(images, limit)?;
    let ([_], labels_data) = read_file(labels, limit.saturating_sub(pixels.len() as u64))?;
    if count != labels_data.len() {
        return Err(MediaError::malformed(
            labels,
            format!("{} labels for {count} pictures", labels_data.len()),
        ));
    }
    if rows == 0 || columns == 0 {
        return Err(MediaError::malformed(images, "pictures without pixels"));
    }
    Ok(IdxImages {
        rows,
        columns,
        pixels,
        labels: labels_data,
    })
}

fn read_file<const D: usize>(path: &Path, limit: u64) -> Result<([usize; D], Vec<u8>), MediaError> {
    let file = BufReader::new(open_regular(path).map_err(io_error("read", path))?);
    let mut reader: Box<dyn Read> = match path.extension() {
        Some(ending) if ending == "gz" => Box::new(GzDecoder::new(file)),
        _ => Box::new(file),
    };
    let mut word = || -> Result<u32, MediaError> {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => MediaError::malformed(path, "cut off inside its header"),
            _ => io_error("read", path)(e),
        })?;
        Ok(u32::from_be_bytes(bytes))
    };
    let magic = word()?;
    // Two zero bytes, the type (8: unsigned bytes), the number of dimensions.
    let expected = 0x0800 + D as u32;
    if magic != expected {
        return Err(MediaError::malformed(
            path,
            format!(
                "not an IDX file of bytes in {D} dimensions: it begins with {magic:#010x}, not \
                 {expected:#010x}"
            ),
        ));
    }
    let mut dims = [0; D];
    for dim in &mut dims {
        *dim = word()? as usize;
    }
    // Reads at most one byte more than the header says: a damaged archive may unpack to anything.
    let size = dims
        .iter()
        .try_fold(1u64, |size, &dim| size.checked_mul(dim as u64));
    if let Some(size) = size.filter(|size| *size > limit) {
        let (size, limit) = (size.div_ceil(MEGABYTE), limit / MEGABYTE);
        let reason = format!(
            "its header says {dims:?}, {size} MB, more than the {limit} MB that are allowed for pictures \
             and labels of both splits together"
        );
        return Err(MediaError::too_large(path, reason, Bound::Idx));
    }
    let mut data = Vec::new();
    reader
        .take(size.unwrap_or(0).saturating_add(1))
        .read_to_end(&mut data)
        .map_err(io_error("read", path))?;
    let found = data.len() as u64;
    if size != Some(found) {
        let more = if size.is_some_and(|size| size < found) {
            "at least "
        } else {
            ""
        };
        let reason = format!("holds {more}{found} bytes where its header says {dims:?}");
        return Err(MediaError::malformed(path, reason));
    }
    Ok((dims, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::PathBuf;

    fn file(magic: u32, dims: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = magic.to_be_bytes().to_vec();
        for dim in dims {
            bytes.extend(dim.to_be_bytes());
        }
        bytes.extend(data);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        let dir = tempfile::tempdir().unwrap();
        let images = file(0x803, &[2, 1, 2], &[1, 2, 3, 4]);
        let labels = file(0x801, &[2], &[7, 8]);
        let plain = write(dir.path(), "t10k-images-idx3-ubyte", &images);
        let gz = write(dir.path(), "t10k-labels-idx1-ubyte.gz", &gzip(&labels));
        let set = read_idx(&plain, &gz, 100).unwrap();
        assert_eq!(
            (set.picture(1), &set.labels[..]),
            (&[3, 4][..], &[7, 8][..])
        );
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let good = write(dir.path(), "l", &file(0x801, &[2], &[7, 8]));
        let gz = gzip(&file(0x803, &[2, 1, 2], &[1, 2, 3, 4]));
        let cases: [(&str, &[u8], &str); 7] = [
            (
                "wrong",
                &file(0x801, &[4], &[1, 2, 3, 4]),
                "not an IDX file",
            ),
            ("short", &file(0x803, &[2, 1, 2], &[1, 2]), "holds 2 bytes"),
            (
                "long",
                &file(0x803, &[2, 1, 1], &[1, 2, 3, 4]),
                "at least 3 bytes",
            ),
            (
                "huge",
                &file(0x803, &[u32::MAX; 3], &[1, 2]),
                "where its header says",
            ),
            ("header", &[0, 0, 8], "cut off inside its header"),
            (
                "count",
                &file(0x803, &[1, 1, 2], &[1, 2]),
                "2 labels for 1 pictures",
            ),
            ("cut.gz", &gz[..gz.len() - 10], "cannot read"),
        ];
        for (name, bytes, part) in cases {
            let path = write(dir.path(), name, bytes);
            let message = read_idx(&path, &good, 1 << 20).unwrap_err().to_string();
            // Two files are read; the line says which one is damaged.
            let named = if name == "count" { &good } else { &path };
            assert!(message.contains(part), "{name}: {message}");
            assert!(
                message.contains(&*named.to_string_lossy()),
                "{name}: {message}"
            );
        }
    }

    #[test]
    fn a_small_file_takes_no_more_memory_than_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let labels = write(dir.path(), "l", &file(0x801, &[2], &[7, 8]));
        // Twenty megabytes of zeros are twenty kilobytes of file.
        let zeros = vec![0; 20 << 20];
        let bomb = gzip(&file(0x803, &[20, 1024, 1024], &zeros));
        assert!(bomb.len() < 200_000, "{}", bomb.len());
        let bomb = write(dir.path(), "bomb.gz", &bomb);
        let message = read_idx(&bomb, &labels, 8 << 20).unwrap_err().to_string();
        assert!(message.contains("20 MB, more than the 8 MB"), "{message}");
        // Labels count with pictures.
        let images = write(dir.path(), "i", &file(0x803, &[2, 1, 2], &[1, 2, 3, 4]));
        assert_eq!(read_idx(&images, &labels, 6).unwrap().bytes(), 6);
        let message = read_idx(&images, &labels, 5).unwrap_err().to_string();
        assert!(message.contains("of both splits together"), "{message}");
        // What the header does not say is not unpacked either.
        let bomb = gzip(&file(0x803, &[2, 1, 1], &zeros));
        let bomb = write(dir.path(), "more.gz", &bomb);
        let message = read_idx(&bomb, &labels, 8 << 20).unwrap_err().to_string();
        assert!(message.contains("at least 3 bytes"), "{message}");
    }
}
