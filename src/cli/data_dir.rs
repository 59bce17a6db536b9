//! The data directory of a server: its node and its version.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Makes the data directory, or checks that it is one of ours, of this version, and not in use. It is ours until the
/// file is dropped.
pub fn prepare(data_dir: &Path) -> Result<File> {
    const FORMAT_FILE: &str = "MILLRACE-DATA";
    const FORMAT: &str = "version 1";
    let shown = data_dir.display();
    std::fs::create_dir_all(data_dir).with_context(|| format!("the data directory {shown} can't be made"))?;
    let path = data_dir.join(FORMAT_FILE);
    if !path.exists() && std::fs::read_dir(data_dir)?.next().is_some() {
        bail!(
            "{shown} is not empty and is no data directory of Millrace's (there is no file {FORMAT_FILE}): name another directory"
        );
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("{} can't be opened", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!("the data directory {shown} is in use by another process: stop that one, or name another directory")
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("{} can't be locked", path.display()));
        }
    }
    let found = std::fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))?;
    if found.is_empty() {
        std::fs::write(&path, format!("{FORMAT}\n"))
            .with_context(|| format!("the data directory {shown} can't be written"))?;
    } else if found.trim() != FORMAT {
        bail!(
            "the data directory {shown} has format {:?}, and this binary reads {FORMAT:?}: run the binary that wrote it, or name another directory",
            found.trim()
        );
    }
    Ok(file)
}

/// The id of the node whose data directory this is: generated once, and kept there.
pub fn node_id(data_dir: &Path) -> Result<String> {
    let path = data_dir.join("node-id");
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{} can't be read", path.display())),
    }
    let id = crate::types::uuid_from(crate::environment::random(), crate::environment::random());
    std::fs::write(&path, format!("{id}\n")).with_context(|| format!("{} can't be written", path.display()))?;
    Ok(id)
}

/// A directory that goes with the process.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("millrace-{:016x}", crate::environment::random()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("no temporary directory can be made at {}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
