//! The file of tokens, and the commands that keep it. A server that runs reads it again when it has changed.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use netloft_access::{Token, TokenName, TokenRecord, Tokens};

use super::TOKENS;
use super::key::write_private;
use crate::args::{NewToken, TokenCommand, TokenPlace};
use crate::settings;

/// The most tokens that are kept: a server reads all of them whenever one changes.
const TOKENS_MAX: usize = 10_000;

/// The text of the file; empty if there is none.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Carries a command out; answers what to tell.
pub(crate) fn carry_out(command: TokenCommand) -> anyhow::Result<String> {
    match command {
        TokenCommand::Create(new) => create(new),
        TokenCommand::List(place) => {
            let book = Book::open(place)?;
            Ok(book.list())
        }
        TokenCommand::Rotate { name, keep, place } => rotate(&name, keep, place),
        TokenCommand::Revoke { name, place } => revoke(&name, place),
    }
}

fn create(new: NewToken) -> anyhow::Result<String> {
    let NewToken { name, scopes, addresses, expires, place } = new;
    let mut book = Book::open(place)?;
    let now = now();
    book.forget_expired(now);
    if book.tokens.records.iter().any(|record| record.name == name) {
        bail!("there is a token called {name}: rotate it, or revoke it first");
    }
    if book.tokens.records.len() >= TOKENS_MAX {
        bail!("there are {TOKENS_MAX} tokens already");
    }
    let token = Token::from_bytes(rand::random());
    let expires = expires.map(|expires| now.saturating_add(expires.as_secs()));
    book.tokens.records.push(TokenRecord {
        name,
        hash: token.hash(),
        scopes,
        addresses,
        created: now,
        expires,
    });
    book.save()?;
    Ok(token.to_string())
}

fn rotate(name: &TokenName, keep: Duration, place: TokenPlace) -> anyhow::Result<String> {
    let mut book = Book::open(place)?;
    let now = now();
    book.forget_expired(now);
    let ends = now.saturating_add(keep.as_secs());
    let token = Token::from_bytes(rand::random());
    let newest = book.tokens.records.iter().rev().find(|record| record.name == *name).cloned();
    let newest = newest.with_context(|| format!("there is no token called {name}"))?;
    for record in book.tokens.records.iter_mut().filter(|record| record.name == *name) {
        record.expires = Some(record.expires.map_or(ends, |expires| expires.min(ends)));
    }
    // It lives as long again as the one before was to.
    let expires = newest.expires.map(|expires| now + expires.saturating_sub(newest.created));
    book.tokens.records.push(TokenRecord { hash: token.hash(), created: now, expires, ..newest });
    book.save()?;
    Ok(token.to_string())
}

fn revoke(name: &TokenName, place: TokenPlace) -> anyhow::Result<String> {
    let mut book = Book::open(place)?;
    let before = book.tokens.records.len();
    book.tokens.records.retain(|record| record.name != *name);
    if book.tokens.records.len() == before {
        bail!("there is no token called {name}");
    }
    book.save()?;
    Ok(format!("{name} counts for nothing any more"))
}

/// The tokens in their file, locked against others who would change it.
struct Book {
    path: PathBuf,
    tokens: Tokens,
    _lock: File,
}

impl Book {
    fn open(place: TokenPlace) -> anyhow::Result<Self> {
        let path = match place.tokens {
            Some(path) => path,
            None => settings::data_dir(place.data_dir)?.join(TOKENS),
        };
        let lock = lock(&path).with_context(|| format!("cannot lock {}", path.display()))?;
        let tokens =
            toml::from_str(&read(&path)?).with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Self { path, tokens, _lock: lock })
    }

    fn save(&self) -> anyhow::Result<()> {
        let text = toml::to_string(&self.tokens).context("cannot write tokens as TOML")?;
        write_private(&self.path, text.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn forget_expired(&mut self, now: u64) {
        self.tokens.records.retain(|record| record.expires.is_none_or(|expires| expires > now));
    }

    /// A line for each token.
    fn list(&self) -> String {
        let mut text = String::from("NAME\tSCOPES\tADDRESSES\tCREATED\tEXPIRES");
        for record in &self.tokens.records {
            let TokenRecord { name, scopes, addresses, created, expires, .. } = record;
            let addresses = if addresses.is_empty() { "own".to_owned() } else { joined(addresses.iter()) };
            let expires = expires.map_or_else(|| "never".to_owned(), date);
            // Writing to a text cannot fail.
            let _ = write!(
                text,
                "\n{name}\t{}\t{addresses}\t{}\t{expires}",
                joined(scopes.iter()),
                date(*created)
            );
        }
        text
    }
}

/// Locked in a file beside it, because the file itself is replaced whenever it changes.
fn lock(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside)?;
    file.lock()?;
    Ok(file)
}

fn joined<T: ToString>(all: impl Iterator<Item = T>) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(" ")
}

fn date(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
