//! Blobs: bytes by their SHA-256, in parts.

use plan::Digest;
use rusqlite::{OptionalExtension, Row as SqlRow};

use super::{Database, Failure, count, digest, unsigned};
use crate::store::sqlite::PIECE_BYTES;
use crate::store::{BLOB_BYTES_MAX, StoreError};

impl Database {
    /// How many bytes the blob of this digest has.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Result<Option<usize>, StoreError> {
        let sql = "SELECT size FROM blob WHERE digest = ?1";
        let size = |row: &SqlRow<'_>| unsigned(row, 0);
        let read = || self.connection.query_row(sql, [digest.bytes()], size).optional();
        let size = read().map_err(|error| self.error("read a blob", error))?;
        Ok(size.and_then(|size| usize::try_from(size).ok()))
    }

    /// One part of a blob.
    pub(crate) fn piece(&self, blob: &Digest, number: u32) -> Result<Vec<u8>, StoreError> {
        let sql = "SELECT bytes FROM piece WHERE digest = ?1 AND number = ?2";
        let key = (blob.bytes(), number);
        let read = || self.connection.query_row(sql, key, |row| row.get(0)).optional();
        let found = read().map_err(|error| self.error("read a blob", error))?;
        found.ok_or_else(|| self.corrupt(format!("the blob {blob} lacks its part {number}")).into())
    }

    /// Keeps one part of a blob. It counts once [`Database::put_blob`] has named the whole.
    pub(crate) fn put_piece(
        &mut self,
        blob: &Digest,
        number: u32,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let sql = "INSERT OR IGNORE INTO piece VALUES (?1, ?2, ?3)";
        self.write(|connection| connection.execute(sql, (blob.bytes(), number, bytes)).map(drop))
    }

    /// The parts of this blob are all there.
    pub(crate) fn put_blob(&mut self, blob: &Digest, size: usize) -> Result<(), Failure> {
        let sql = "INSERT OR IGNORE INTO blob VALUES (?1, ?2)";
        self.write(|connection| connection.execute(sql, (blob.bytes(), count(size))).map(drop))
    }

    /// Reads every blob and checks its digest.
    pub(crate) fn check_blobs(&self) -> Result<(), StoreError> {
        for blob in self.blobs()? {
            let size = self.blob_size(&blob)?.unwrap_or(0).min(BLOB_BYTES_MAX);
            let mut bytes = Vec::new();
            for (number, _) in (0u32..).zip((0..size).step_by(PIECE_BYTES)) {
                bytes.extend(self.piece(&blob, number)?);
            }
            if Digest::of(&bytes) != blob {
                let what = format!("the blob {blob} does not have its digest");
                return Err(self.corrupt(what).into());
            }
        }
        Ok(())
    }

    /// The digests of all blobs.
    pub(crate) fn blobs(&self) -> Result<Vec<Digest>, StoreError> {
        self.all("SELECT digest FROM blob ORDER BY digest", |row| digest(row, 0))
    }
}
