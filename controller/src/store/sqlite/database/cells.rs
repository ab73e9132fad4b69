//! Cells: small values with a version and a checksum.

use plan::Digest;
use rusqlite::{OptionalExtension, Row as SqlRow};

use super::{Database, Failure, digest, unsigned};
use crate::store::StoreError;
use crate::store::sqlite::signed;

impl Database {
    /// The version and bytes of a cell, checked.
    pub(crate) fn cell(&self, name: &str) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let sql = "SELECT version, bytes, sum FROM cell WHERE name = ?1";
        let read =
            |row: &SqlRow<'_>| Ok((unsigned(row, 0)?, row.get::<_, Vec<u8>>(1)?, digest(row, 2)?));
        let found = self.connection.query_row(sql, [name], read).optional();
        match found.map_err(|error| self.error("read a cell", error))? {
            None => Ok(None),
            Some((version, bytes, sum)) if cell_sum(name, version, &bytes) == sum => {
                Ok(Some((version, bytes)))
            }
            Some(_) => Err(self.corrupt(format!("the cell `{name}` is not as written")).into()),
        }
    }

    /// Writes a cell as the next version after `expected`.
    pub(crate) fn swap_cell(
        &mut self,
        name: &str,
        expected: Option<u64>,
        bytes: &[u8],
    ) -> Result<u64, Failure> {
        let present = self.cell(name).map_err(Failure::Failed)?.map(|(version, _)| version);
        if present != expected {
            return Err(Failure::Stale);
        }
        let version = expected.unwrap_or(0).saturating_add(1);
        self.put_cell(name, version, bytes)?;
        Ok(version)
    }

    /// Writes a cell as this version, whatever it was.
    pub(crate) fn put_cell(
        &mut self,
        name: &str,
        version: u64,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let sum = cell_sum(name, version, bytes);
        let sql = "INSERT OR REPLACE INTO cell VALUES (?1, ?2, ?3, ?4)";
        self.write(|connection| {
            connection.execute(sql, (name, signed(version), bytes, sum.bytes())).map(drop)
        })
    }

    /// Checks every cell, reading them all rather than looking each up: a damaged name would not be
    /// found, and the cell would seem never to have been written.
    pub(crate) fn check_cells(&self) -> Result<(), StoreError> {
        let cells = self.all("SELECT name, version, bytes, sum FROM cell", |row| {
            let name: String = row.get(0)?;
            let sum = cell_sum(&name, unsigned(row, 1)?, &row.get::<_, Vec<u8>>(2)?);
            Ok((name, sum == digest(row, 3)?))
        })?;
        match cells.into_iter().find(|(_, whole)| !whole) {
            Some((name, _)) => {
                Err(self.corrupt(format!("the cell `{name}` is not as written")).into())
            }
            None => Ok(()),
        }
    }

    /// The names of all cells.
    pub(crate) fn cells(&self) -> Result<Vec<String>, StoreError> {
        self.all("SELECT name FROM cell ORDER BY name", |row| row.get(0))
    }
}

fn cell_sum(name: &str, version: u64, bytes: &[u8]) -> Digest {
    Digest::of(&[format!("cell {name} {version} ").as_bytes(), bytes].concat())
}
