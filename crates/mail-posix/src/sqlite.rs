//! Questions to an SQLite database, with the system's libsqlite3 opened at run time: building needs no headers, and the distribution mends it.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use libloading::Library;

const OK: c_int = 0;
const ROW: c_int = 100;
const DONE: c_int = 101;
const OPEN_READ_ONLY: c_int = 1;
/// Each connection may be used by any thread, one after another.
const OPEN_NO_MUTEX: c_int = 0x8000;

type Handle = *mut c_void;
type Statement = *mut c_void;
type Open = unsafe extern "C" fn(*const c_char, *mut Handle, c_int, *const c_char) -> c_int;
type Close = unsafe extern "C" fn(Handle) -> c_int;
type Explain = unsafe extern "C" fn(Handle) -> *const c_char;
type Wait = unsafe extern "C" fn(Handle, c_int) -> c_int;
type Prepare = unsafe extern "C" fn(Handle, *const c_char, c_int, *mut Statement, *mut *const c_char) -> c_int;
type Act = unsafe extern "C" fn(Statement) -> c_int;
type Text = unsafe extern "C" fn(Statement, c_int) -> *const c_uchar;
type Length = unsafe extern "C" fn(Statement, c_int) -> c_int;

/// A database, opened for reading.
pub struct Database {
    handle: Handle,
    close: Close,
    explain: Explain,
    prepare: Prepare,
    step: Act,
    finalize: Act,
    text: Text,
    length: Length,
    _library: Library,
}

// SAFETY: the handle belongs to this value alone, and SQLite lets a connection move between threads when only one uses it at a time, which `&mut` sees to.
unsafe impl Send for Database {}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// Opens a file for reading. Another process that writes is waited for up to five seconds.
    ///
    /// # Errors
    /// libsqlite3 is not on this machine, or what it says about the file.
    pub fn open(path: &Path) -> Result<Self, String> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| "a path with a NUL octet".to_owned())?;
        let mut database = Self::functions().map_err(|error| format!("libsqlite3.so.0 cannot be opened: {error}"))?;
        // SAFETY: the functions have these types in every libsqlite3.so.0, and the path ends in NUL and outlives the call.
        unsafe {
            let open: Open = *database._library.get(b"sqlite3_open_v2\0").map_err(|error| error.to_string())?;
            let wait: Wait = *database._library.get(b"sqlite3_busy_timeout\0").map_err(|error| error.to_string())?;
            if open(path.as_ptr(), &mut database.handle, OPEN_READ_ONLY | OPEN_NO_MUTEX, ptr::null()) != OK {
                return Err(database.error());
            }
            wait(database.handle, 5000);
        }
        Ok(database)
    }

    fn functions() -> Result<Self, libloading::Error> {
        // SAFETY: libsqlite3's initialisation has no preconditions, and each symbol has the type of its documentation.
        unsafe {
            let library = Library::new("libsqlite3.so.0")?;
            Ok(Self {
                handle: ptr::null_mut(),
                close: *library.get(b"sqlite3_close_v2\0")?,
                explain: *library.get(b"sqlite3_errmsg\0")?,
                prepare: *library.get(b"sqlite3_prepare_v2\0")?,
                step: *library.get(b"sqlite3_step\0")?,
                finalize: *library.get(b"sqlite3_finalize\0")?,
                text: *library.get(b"sqlite3_column_text\0")?,
                length: *library.get(b"sqlite3_column_bytes\0")?,
                _library: library,
            })
        }
    }

    /// The first column of every row that a statement gives; none where it is NULL. Blocks.
    ///
    /// # Errors
    /// What SQLite says about the statement, or more octets than `limit`.
    pub fn first_column(&mut self, statement: &str, limit: usize) -> Result<Vec<Option<Vec<u8>>>, String> {
        let length = c_int::try_from(statement.len()).map_err(|_| "the statement is too long".to_owned())?;
        let mut prepared: Statement = ptr::null_mut();
        // SAFETY: the handle is open, and the text is as long as stated.
        let code =
            unsafe { (self.prepare)(self.handle, statement.as_ptr().cast(), length, &mut prepared, ptr::null_mut()) };
        if code != OK {
            return Err(self.error());
        }
        let rows = self.rows(prepared, limit);
        // SAFETY: the statement was prepared (or is null, which is allowed) and is not used any more.
        unsafe { (self.finalize)(prepared) };
        rows
    }

    fn rows(&self, prepared: Statement, limit: usize) -> Result<Vec<Option<Vec<u8>>>, String> {
        let (mut rows, mut octets) = (Vec::new(), 0);
        if prepared.is_null() {
            return Ok(rows);
        }
        loop {
            // SAFETY: the statement is prepared and not finalised.
            match unsafe { (self.step)(prepared) } {
                ROW => {}
                DONE => return Ok(rows),
                _ => return Err(self.error()),
            }
            let value = self.first(prepared);
            octets += value.as_ref().map_or(0, Vec::len) + 1;
            if octets > limit {
                return Err(format!("the answer is longer than {limit} octets"));
            }
            rows.push(value);
        }
    }

    fn first(&self, prepared: Statement) -> Option<Vec<u8>> {
        // SAFETY: a row is there; the text is valid until the next step, and as long as SQLite says when asked after it.
        unsafe {
            let text = (self.text)(prepared, 0);
            let length = usize::try_from((self.length)(prepared, 0)).unwrap_or(0);
            (!text.is_null()).then(|| std::slice::from_raw_parts(text, length).to_vec())
        }
    }

    fn error(&self) -> String {
        // SAFETY: errmsg takes any handle, a null one too, and gives a text that ends in NUL.
        unsafe {
            let text = (self.explain)(self.handle);
            if text.is_null() { "unknown".to_owned() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: closed once; a null handle is allowed. The library is unloaded after this.
        unsafe { (self.close)(self.handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The test needs the library, as the daemon does.
    #[test]
    fn values_come_as_text_and_mistakes_as_errors() {
        let mut database = Database::open(Path::new(":memory:")).expect("opens");
        let mut values = |statement: &str| database.first_column(statement, 100);
        let rows = values("SELECT 'a', 1 UNION ALL SELECT NULL, 2 UNION ALL SELECT 12, 3").expect("rows");
        assert_eq!(rows, [Some(b"a".to_vec()), None, Some(b"12".to_vec())]);
        assert_eq!(values("").expect("nothing"), []);
        assert!(values("SELECT nosuch").expect_err("refused").contains("nosuch"));
        assert!(values("SELECT hex(zeroblob(200))").expect_err("refused").contains("longer"));
        assert!(Database::open(Path::new("/nowhere/at/all")).is_err());
    }
}
