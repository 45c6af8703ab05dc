//! Checking a password with PAM, with libpam opened at run time.
//!
//! Modules are foreign C code that blocks, reads /etc/shadow and may keep state, so this is called in a helper process only, never in a
//! process that serves the network. The password is given to the conversation and to nothing else.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;

use libloading::Library;

/// What is asked.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The PAM service, a file name in /etc/pam.d such as `dovecot` or `imap`.
    pub service: &'a str,
    /// The user name.
    pub user: &'a str,
    /// The password in clear.
    pub password: &'a str,
    /// The client's address, for the modules' log (PAM_RHOST).
    pub remote: Option<&'a str>,
    /// The terminal's name, `dovecot` for mail logins (PAM_TTY).
    pub terminal: &'a str,
    /// Read services from this directory instead of /etc/pam.d: for tests.
    pub directory: Option<&'a Path>,
}

/// What PAM says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Password right and account valid. The name is what the modules made of the user name.
    Granted {
        /// The user name after the modules.
        user: String,
    },
    /// The password is wrong, or a module says no; the text is libpam's.
    Denied(String),
    /// The user does not exist, says PAM.
    UnknownUser(String),
    /// The password is right but the account or password has expired or is locked.
    Expired(String),
    /// The question could not be answered.
    Unavailable(String),
}

/// Asks PAM: authenticate, then account management. Blocks, sometimes for seconds (pam_unix waits after a wrong password).
#[must_use]
pub fn check(question: Question<'_>) -> Answer {
    match Pam::open().and_then(|pam| pam.check(question)) {
        Ok(answer) => answer,
        Err(error) => Answer::Unavailable(error.to_string()),
    }
}

/// Whether libpam is on this machine.
///
/// # Errors
/// The reason why it cannot be opened.
pub fn available() -> Result<(), String> {
    Pam::open().map(drop).map_err(|error| error.to_string())
}

const SUCCESS: c_int = 0;
const USER_UNKNOWN: c_int = 10;
const AUTHENTICATION_ERROR: c_int = 7;
const CONVERSATION_ERROR: c_int = 19;
const BUFFER_ERROR: c_int = 5;
const ITEM_USER: c_int = 2;
const ITEM_TTY: c_int = 3;
const ITEM_REMOTE_HOST: c_int = 4;
const PROMPT_ECHO_OFF: c_int = 1;
const PROMPT_ECHO_ON: c_int = 2;

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

type Converse = extern "C" fn(c_int, *const *const Message, *mut *mut Response, *mut c_void) -> c_int;

#[repr(C)]
struct Conversation {
    converse: Converse,
    data: *mut c_void,
}

type Handle = *mut c_void;
type Start = unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *mut Handle) -> c_int;
type StartIn =
    unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *const c_char, *mut Handle) -> c_int;
type Act = unsafe extern "C" fn(Handle, c_int) -> c_int;
type SetItem = unsafe extern "C" fn(Handle, c_int, *const c_void) -> c_int;
type GetItem = unsafe extern "C" fn(Handle, c_int, *mut *const c_void) -> c_int;
type Explain = unsafe extern "C" fn(Handle, c_int) -> *const c_char;

/// What the conversation answers with.
struct Secrets {
    user: CString,
    password: CString,
}

/// The functions of libpam. They stay valid as long as the library is open.
struct Pam {
    start: Start,
    start_in: Option<StartIn>,
    authenticate: Act,
    account: Act,
    end: Act,
    set_item: SetItem,
    get_item: GetItem,
    explain: Explain,
    _library: Library,
}

#[derive(Debug)]
enum Problem {
    Library(libloading::Error),
    Text,
    Start(c_int),
    NoDirectories,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library(error) => write!(f, "cannot open libpam: {error}"),
            Self::Text => write!(f, "NUL byte in user name or password"),
            Self::Start(code) => write!(f, "pam_start() failed with code {code}"),
            Self::NoDirectories => write!(f, "this libpam knows no other directory than /etc/pam.d"),
        }
    }
}

impl From<libloading::Error> for Problem {
    fn from(error: libloading::Error) -> Self {
        Self::Library(error)
    }
}

impl Pam {
    fn open() -> Result<Self, Problem> {
        // SAFETY: libpam's initialisers have no preconditions; the types are those of Linux-PAM's <security/pam_appl.h>; the function
        // pointers are kept beside the library and not used after it.
        unsafe {
            let library = Library::new("libpam.so.0")?;
            Ok(Self {
                start: *library.get::<Start>(b"pam_start\0")?,
                start_in: library.get::<StartIn>(b"pam_start_confdir\0").ok().map(|symbol| *symbol),
                authenticate: *library.get::<Act>(b"pam_authenticate\0")?,
                account: *library.get::<Act>(b"pam_acct_mgmt\0")?,
                end: *library.get::<Act>(b"pam_end\0")?,
                set_item: *library.get::<SetItem>(b"pam_set_item\0")?,
                get_item: *library.get::<GetItem>(b"pam_get_item\0")?,
                explain: *library.get::<Explain>(b"pam_strerror\0")?,
                _library: library,
            })
        }
    }

    fn check(&self, question: Question<'_>) -> Result<Answer, Problem> {
        let secrets = Secrets { user: text(question.user)?, password: text(question.password)? };
        let conversation = Conversation { converse, data: (&raw const secrets).cast_mut().cast() };
        let handle = self.begin(question, &secrets, &conversation)?;
        let answer = self.ask(handle, question);
        let code = if matches!(answer, Ok(Answer::Granted { .. })) { SUCCESS } else { AUTHENTICATION_ERROR };
        // SAFETY: a live handle, ended once.
        unsafe { (self.end)(handle, code) };
        answer
    }

    fn begin(&self, question: Question<'_>, secrets: &Secrets, conversation: &Conversation) -> Result<Handle, Problem> {
        let service = text(question.service)?;
        let mut handle = ptr::null_mut();
        let code = match question.directory {
            None => {
                // SAFETY: all strings and the conversation outlive the handle (they live in `check`); the handle's place is valid.
                unsafe { (self.start)(service.as_ptr(), secrets.user.as_ptr(), conversation, &raw mut handle) }
            }
            Some(directory) => {
                let start = self.start_in.ok_or(Problem::NoDirectories)?;
                let directory = text(&directory.to_string_lossy())?;
                // SAFETY: as above; libpam copies the directory's name.
                unsafe {
                    start(service.as_ptr(), secrets.user.as_ptr(), conversation, directory.as_ptr(), &raw mut handle)
                }
            }
        };
        if code != SUCCESS || handle.is_null() { Err(Problem::Start(code)) } else { Ok(handle) }
    }

    fn ask(&self, handle: Handle, question: Question<'_>) -> Result<Answer, Problem> {
        self.set(handle, ITEM_TTY, question.terminal)?;
        if let Some(remote) = question.remote {
            self.set(handle, ITEM_REMOTE_HOST, remote)?;
        }
        // SAFETY: a live handle.
        let code = unsafe { (self.authenticate)(handle, 0) };
        if code != SUCCESS {
            return Ok(self.refused("pam_authenticate()", handle, code));
        }
        // SAFETY: a live handle.
        let code = unsafe { (self.account)(handle, 0) };
        if code != SUCCESS {
            return Ok(self.refused("pam_acct_mgmt()", handle, code));
        }
        Ok(Answer::Granted { user: self.user(handle).unwrap_or_else(|| question.user.to_owned()) })
    }

    fn set(&self, handle: Handle, item: c_int, value: &str) -> Result<(), Problem> {
        let value = text(value)?;
        // SAFETY: a live handle; libpam copies the string.
        match unsafe { (self.set_item)(handle, item, value.as_ptr().cast()) } {
            SUCCESS => Ok(()),
            code => Err(Problem::Start(code)),
        }
    }

    fn user(&self, handle: Handle) -> Option<String> {
        let mut item = ptr::null();
        // SAFETY: a live handle and a valid place; the item is a string owned by libpam, copied at once.
        unsafe {
            let code = (self.get_item)(handle, ITEM_USER, &raw mut item);
            (code == SUCCESS && !item.is_null())
                .then(|| CStr::from_ptr(item.cast::<c_char>()).to_string_lossy().into_owned())
        }
    }

    fn refused(&self, call: &str, handle: Handle, code: c_int) -> Answer {
        // SAFETY: a live handle; the result is a static string or null.
        let text = unsafe {
            let text = (self.explain)(handle, code);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        // Dovecot's words, which log readers look for.
        let hint = if code == AUTHENTICATION_ERROR { " (Password mismatch?)" } else { "" };
        classify(code, format!("{call} failed: {text}{hint}"))
    }
}

/// The meaning of Linux-PAM's codes (<security/_pam_types.h>): what says something about the user, and what only about the system.
fn classify(code: c_int, text: String) -> Answer {
    match code {
        USER_UNKNOWN => Answer::UnknownUser(text),
        // PERM_DENIED, AUTH_ERR, CRED_INSUFFICIENT, MAXTRIES
        6 | AUTHENTICATION_ERROR | 8 | 11 => Answer::Denied(text),
        // NEW_AUTHTOK_REQD, ACCT_EXPIRED, CRED_EXPIRED, AUTHTOK_EXPIRED
        12 | 13 | 16 | 27 => Answer::Expired(text),
        _ => Answer::Unavailable(text),
    }
}

fn text(value: &str) -> Result<CString, Problem> {
    CString::new(value).map_err(|_| Problem::Text)
}

/// libpam's callback: answers each prompt with user name or password, and every other message with nothing. Never unwinds.
extern "C" fn converse(
    count: c_int,
    messages: *const *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let answered = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: libpam's contract: `count` messages, a place for the responses, and our own data pointer.
        unsafe { answer_all(count, messages, responses, data) }
    }));
    answered.unwrap_or(CONVERSATION_ERROR)
}

/// # Safety
/// The contract of pam_conv(3): `messages` points to `count` pointers to messages, `responses` may be written, `data` is [`Secrets`].
unsafe fn answer_all(
    count: c_int,
    messages: *const *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let Ok(count) = usize::try_from(count) else { return CONVERSATION_ERROR };
    if count == 0 || count > 32 || messages.is_null() || responses.is_null() || data.is_null() {
        return CONVERSATION_ERROR;
    }
    // SAFETY: calloc gives zeroed room for `count` responses (all null), which libpam frees; indices stay below `count`.
    unsafe {
        let secrets = &*data.cast::<Secrets>();
        let filled = libc::calloc(count, size_of::<Response>()).cast::<Response>();
        if filled.is_null() {
            return BUFFER_ERROR;
        }
        for index in 0..count {
            let message = *messages.add(index);
            let style = if message.is_null() { 0 } else { (*message).style };
            (*filled.add(index)).text = match style {
                PROMPT_ECHO_OFF => libc::strdup(secrets.password.as_ptr()),
                PROMPT_ECHO_ON => libc::strdup(secrets.user.as_ptr()),
                _ => ptr::null_mut(),
            };
        }
        *responses = filled;
    }
    SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(rules: &str) -> Answer {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mail"), rules).unwrap();
        check(Question {
            service: "mail",
            user: "somebody",
            password: "secret",
            remote: Some("192.0.2.1"),
            terminal: "dovecot",
            directory: Some(directory.path()),
        })
    }

    /// A machine without libpam, or with one from before pam_start_confdir, cannot run these; the first test says so.
    fn usable() -> bool {
        Pam::open().is_ok_and(|pam| pam.start_in.is_some())
    }

    #[test]
    fn libpam_or_a_reason() {
        if !usable() {
            eprintln!("skipped: no libpam with pam_start_confdir: {:?}", available());
        }
    }

    #[test]
    fn modules_decide() {
        if !usable() {
            return;
        }
        let granted = ask("auth required pam_permit.so\naccount required pam_permit.so\n");
        assert_eq!(granted, Answer::Granted { user: "somebody".into() });
        let denied = ask("auth required pam_deny.so\naccount required pam_permit.so\n");
        assert!(matches!(denied, Answer::Denied(_)), "{denied:?}");
        let locked = ask("auth required pam_permit.so\naccount required pam_deny.so\n");
        assert!(matches!(locked, Answer::Denied(_)), "{locked:?}");
    }

    #[test]
    fn the_conversation_gives_the_password() {
        if !usable() {
            return;
        }
        // pam_exec with expose_authtok gives the password to a program on standard input.
        let rules = |word: &str| {
            format!(
                "auth required pam_exec.so expose_authtok quiet /bin/grep -qz {word}\naccount required pam_permit.so\n"
            )
        };
        assert!(matches!(ask(&rules("^secret$")), Answer::Granted { .. }));
        assert!(!matches!(ask(&rules("^other$")), Answer::Granted { .. }));
    }

    #[test]
    fn a_nul_byte_never_reaches_c() {
        let answer = check(Question {
            service: "mail",
            user: "a\0b",
            password: "x",
            remote: None,
            terminal: "dovecot",
            directory: None,
        });
        assert!(matches!(answer, Answer::Unavailable(_)));
    }
}
