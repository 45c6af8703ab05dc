//! Sealed memory: bytes in a descriptor that nobody can change any more, to hand to another process.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use rustix::fs::{MemfdFlags, SealFlags};

const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A descriptor with these bytes, positioned at their start and sealed against every change.
///
/// # Errors
/// Memory or descriptors are exhausted.
pub fn sealed(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("postrider", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(bytes)?;
    file.rewind()?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file)
}

/// The bytes of a sealed descriptor that another process passed, at most `limit` of them.
///
/// # Errors
/// It is not sealed (it could change while it is read) or larger than the limit.
pub fn read_sealed(file: &mut File, limit: usize) -> io::Result<Vec<u8>> {
    let seals = rustix::fs::fcntl_get_seals(&*file)?;
    if !seals.contains(SEALS) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptor is not sealed"));
    }
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if size > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "sealed content is larger than allowed"));
    }
    file.rewind()?;
    let mut bytes = Vec::with_capacity(size);
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_read_back_and_cannot_change() {
        let mut file = sealed(b"content").unwrap();
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
        assert_eq!(read_sealed(&mut file, 7).unwrap(), b"content");
        assert!(read_sealed(&mut file, 6).is_err());
    }

    #[test]
    fn an_unsealed_descriptor_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(read_sealed(&mut file, 10).is_err());
    }
}
