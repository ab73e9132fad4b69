//! What is in the file.

use rusqlite::Connection;

/// `XFDB`: tells the file from other SQLite databases.
pub(crate) const APPLICATION_ID: i32 = 0x5846_4442;

/// The layout that this program writes and reads.
pub(crate) const VERSION: i32 = 1;

/// `log`: one row per record. `head`: the last row of the log, so that one cut off at the end is
/// noticed. `piece`: blobs in parts, so that a long one holds up nobody. `proof`: written when the
/// file is opened anew after an error.
///
/// Tables that are found by a name or digest have no second tree that could say otherwise.
const TABLES: &str = "
CREATE TABLE log (
  revision INTEGER PRIMARY KEY,
  incarnation INTEGER NOT NULL,
  parent BLOB NOT NULL,
  digest BLOB NOT NULL,
  bytes BLOB NOT NULL
) STRICT;
CREATE TABLE head (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  incarnation INTEGER NOT NULL,
  revision INTEGER NOT NULL,
  digest BLOB NOT NULL
) STRICT;
CREATE TABLE checkpoint (
  revision INTEGER PRIMARY KEY,
  incarnation INTEGER NOT NULL,
  digest BLOB NOT NULL,
  bytes BLOB NOT NULL,
  sum BLOB NOT NULL
) STRICT;
CREATE TABLE blob (
  digest BLOB PRIMARY KEY,
  size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE piece (
  digest BLOB NOT NULL,
  number INTEGER NOT NULL,
  bytes BLOB NOT NULL,
  PRIMARY KEY (digest, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE cell (
  name TEXT PRIMARY KEY,
  version INTEGER NOT NULL,
  bytes BLOB NOT NULL,
  sum BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE proof (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  count INTEGER NOT NULL
) STRICT;
INSERT INTO proof VALUES (1, 0);
CREATE TRIGGER log_no_update BEFORE UPDATE ON log
  BEGIN SELECT raise(ABORT, 'the log is append-only'); END;
CREATE TRIGGER log_no_delete BEFORE DELETE ON log
  BEGIN SELECT raise(ABORT, 'the log is append-only'); END;
CREATE TRIGGER blob_no_update BEFORE UPDATE ON blob
  BEGIN SELECT raise(ABORT, 'blobs never change'); END;
CREATE TRIGGER blob_no_delete BEFORE DELETE ON blob
  BEGIN SELECT raise(ABORT, 'blobs never change'); END;
CREATE TRIGGER piece_no_update BEFORE UPDATE ON piece
  BEGIN SELECT raise(ABORT, 'blobs never change'); END;
CREATE TRIGGER piece_no_delete BEFORE DELETE ON piece
  BEGIN SELECT raise(ABORT, 'blobs never change'); END;
";

/// Makes the tables of an empty database, in one transaction.
pub(crate) fn create(connection: &mut Connection, head: &super::Head) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO head VALUES (1, ?1, ?2, ?3)",
        (head.token.incarnation, super::signed(head.token.revision), head.digest.bytes()),
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// What is wrong with the tables and triggers; `None`: they are as [`create`] makes them.
pub(crate) fn difference(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut wanted = Connection::open_in_memory()?;
    create(&mut wanted, &super::Head::START)?;
    let (wanted, found) = (items(&wanted)?, items(connection)?);
    let missing = wanted.iter().find(|item| !found.contains(item));
    let extra = found.iter().find(|item| !wanted.contains(item));
    Ok(match (missing, extra) {
        (Some(item), _) => Some(format!("the {} `{}` is not as it was made", item.kind, item.name)),
        (None, Some(item)) => {
            Some(format!("the {} `{}` does not belong here", item.kind, item.name))
        }
        (None, None) => None,
    })
}

#[derive(PartialEq, Eq)]
struct Item {
    kind: String,
    name: String,
    table: String,
    sql: Option<String>,
}

fn items(connection: &Connection) -> rusqlite::Result<Vec<Item>> {
    let mut statement =
        connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")?;
    let rows = statement.query_map((), |row| {
        Ok(Item { kind: row.get(0)?, name: row.get(1)?, table: row.get(2)?, sql: row.get(3)? })
    })?;
    rows.collect()
}
