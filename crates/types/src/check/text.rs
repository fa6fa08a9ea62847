//! The text form of a check: `KIND[:TARGET][,OPTION=VALUE]...`.
//!
//! A target is `PORT` for `tcp`, `[PORT]/PATH` for `http` and `[PORT][/SERVICE]` for `grpc`. A comma or a backslash in a
//! path or a header has a backslash before it. What is printed reads back as it was.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

use super::{Check, CheckKind, Damping, HttpCheck, HttpHeaders, Percent, Span};
use crate::name::through_text;
use crate::{Invalid, Port};

const RULE: &str =
    "must be like tcp, http:/PATH, grpc:/SERVICE or ttl, then options as in ,interval=10s,failures=3";

impl FromStr for Check {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = split(text).into_iter();
        let first = parts.next().unwrap_or_default();
        let mut check = Self::new(kind(&first)?);
        let mut headers = BTreeMap::new();
        for part in parts {
            let (option, value) = part.split_once('=').ok_or_else(|| Invalid::new("check", &part, RULE))?;
            if option == "header" {
                let (name, value) = value
                    .split_once(':')
                    .ok_or_else(|| Invalid::new("check", &part, "must be header=NAME:VALUE"))?;
                headers.insert(name.to_owned(), value.trim().to_owned());
            } else {
                set(&mut check, option, value)?;
            }
        }
        if !headers.is_empty() {
            http(&mut check, "header")?.headers = HttpHeaders::try_from(headers)?;
        }
        Ok(check)
    }
}

/// Splits at commas, except at those with a backslash before them.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, parts.last_mut()) {
            (',', _) => parts.push(String::new()),
            ('\\', Some(part)) => part.extend(chars.next()),
            (char, Some(part)) => part.push(char),
            (_, None) => {}
        }
    }
    parts
}

fn kind(text: &str) -> Result<CheckKind, Invalid> {
    let (word, target) = text.split_once(':').unwrap_or((text, ""));
    let slash = target.find('/').unwrap_or(target.len());
    let (port, path) = target.split_at(slash);
    let port = || if port.is_empty() { Ok(None) } else { port.parse::<Port>().map(Some) };
    match word {
        "http" => {
            let path = if path.is_empty() { "/" } else { path };
            Ok(CheckKind::Http(HttpCheck { port: port()?, ..HttpCheck::get(path.parse()?) }))
        }
        "tcp" if path.is_empty() => Ok(CheckKind::Tcp { port: port()? }),
        "grpc" => {
            let service = path.strip_prefix('/').unwrap_or(path).parse()?;
            Ok(CheckKind::Grpc { port: port()?, service })
        }
        "ttl" if target.is_empty() => Ok(CheckKind::Ttl),
        _ => Err(Invalid::new("check", text, RULE)),
    }
}

fn set(check: &mut Check, option: &str, value: &str) -> Result<(), Invalid> {
    match option {
        "name" => check.name = value.parse()?,
        "interval" => check.interval = value.parse()?,
        "timeout" => check.timeout = value.parse()?,
        "jitter" => check.jitter = value.parse()?,
        "initial" => check.initial = value.parse()?,
        "passes" => check.passes = count(value)?,
        "failures" => check.failures = count(value)?,
        "remove-after" => check.remove_after = Some(value.parse()?),
        "damping" => check.damping = damping(value)?,
        "method" => http(check, option)?.method = value.parse()?,
        "host" => http(check, option)?.host = Some(value.parse()?),
        "status" => http(check, option)?.expected = value.parse()?,
        _ => {
            let rule = "must be name, interval, timeout, jitter, initial, passes, failures, remove-after, damping, \
                        method, host, status or header";
            return Err(Invalid::new("option of a check", option, rule));
        }
    }
    Ok(())
}

fn http<'a>(check: &'a mut Check, option: &str) -> Result<&'a mut HttpCheck, Invalid> {
    match &mut check.kind {
        CheckKind::Http(http) => Ok(http),
        _ => Err(Invalid::new("option of a check", option, "must be of an http check")),
    }
}

fn count(text: &str) -> Result<NonZeroU8, Invalid> {
    text.parse().map_err(|_| Invalid::new("count", text, "must be a number from 1 to 255"))
}

fn damping(text: &str) -> Result<Option<Damping>, Invalid> {
    if text == "none" {
        return Ok(None);
    }
    let refused = || Invalid::new("damping", text, "must be none or CHANGES/TIME, as in 5/1m");
    let (changes, within) = text.split_once('/').ok_or_else(refused)?;
    Ok(Some(Damping { changes: count(changes)?, within: within.parse()? }))
}

through_text!(Check);

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Self::new(self.kind.clone());
        write_kind(&self.kind, f)?;
        if self.name != default.name {
            write!(f, ",name={}", self.name)?;
        }
        let spans: [(&str, Span, Span); 2] =
            [("interval", self.interval, default.interval), ("timeout", self.timeout, default.timeout)];
        for (option, span, default) in spans {
            if span != default {
                write!(f, ",{option}={span}")?;
            }
        }
        let said: Percent = self.jitter;
        if said != default.jitter {
            write!(f, ",jitter={said}")?;
        }
        if self.initial != default.initial {
            write!(f, ",initial={}", self.initial)?;
        }
        for (option, count, default) in
            [("passes", self.passes, default.passes), ("failures", self.failures, default.failures)]
        {
            if count != default {
                write!(f, ",{option}={count}")?;
            }
        }
        if let Some(span) = self.remove_after {
            write!(f, ",remove-after={span}")?;
        }
        match self.damping {
            damping if damping == default.damping => {}
            None => f.write_str(",damping=none")?,
            Some(Damping { changes, within }) => write!(f, ",damping={changes}/{within}")?,
        }
        if let CheckKind::Http(http) = &self.kind { write_http(http, f) } else { Ok(()) }
    }
}

fn write_kind(kind: &CheckKind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let port = kind.port().map(|port| port.to_string()).unwrap_or_default();
    match kind {
        CheckKind::Http(http) => write!(f, "http:{port}{}", escaped(http.path.as_str())),
        CheckKind::Tcp { port: None } => f.write_str("tcp"),
        CheckKind::Tcp { .. } => write!(f, "tcp:{port}"),
        CheckKind::Grpc { port: None, service } if service.as_str().is_empty() => f.write_str("grpc"),
        CheckKind::Grpc { service, .. } => write!(f, "grpc:{port}/{service}"),
        CheckKind::Ttl => f.write_str("ttl"),
    }
}

fn write_http(http: &HttpCheck, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let default = HttpCheck::get(http.path.clone());
    if http.method != default.method {
        write!(f, ",method={}", http.method.as_str())?;
    }
    if let Some(host) = &http.host {
        write!(f, ",host={host}")?;
    }
    if http.expected != default.expected {
        write!(f, ",status={}", http.expected)?;
    }
    http.headers.iter().try_for_each(|(name, value)| write!(f, ",header={name}:{}", escaped(value)))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::CHECK_LEN_MAX;

    #[test]
    fn what_is_not_said_is_the_default() {
        for text in ["tcp", "http:/", "grpc", "ttl"] {
            let check: Check = text.parse().unwrap();
            assert_eq!(check, Check::new(check.kind.clone()));
            assert_eq!(check.to_string(), text);
        }
    }

    #[test]
    fn everything_can_be_said() {
        let said = "http:8081/a\\,b?c=d,name=deep,interval=5s,timeout=500ms,jitter=0%,initial=warning,passes=2,\
                    failures=4,remove-after=10m,damping=3/30s,method=HEAD,host=api.example.org,status=200-399,\
                    header=x-token:a\\, b";
        let check: Check = said.parse().unwrap();
        assert_eq!(check.to_string(), said);
        let CheckKind::Http(http) = &check.kind else { panic!("{check}") };
        assert_eq!(http.path.as_str(), "/a,b?c=d");
        assert_eq!(http.headers.iter().collect::<Vec<_>>(), [("x-token", "a, b")]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, field) in [
            ("", "check"),
            ("script:/bin/sh", "check"),
            ("tcp:80/path", "check"),
            ("ttl:80", "check"),
            ("tcp:0", "port"),
            ("tcp,interval", "check"),
            ("tcp,speed=1", "option of a check"),
            ("tcp,method=GET", "option of a check"),
            ("tcp,passes=0", "count"),
            ("tcp,interval=1ms", "length of time"),
            ("tcp,damping=3", "damping"),
            ("http:/,method=POST", "HTTP method"),
            ("http:/,header=host:a", "HTTP header"),
        ] {
            assert_eq!(text.parse::<Check>().unwrap_err().field(), field, "{text}");
        }
    }

    fn spans() -> impl Strategy<Value = Span> {
        (10..=86_400_000_u64).prop_map(|ms| std::time::Duration::from_millis(ms).try_into().unwrap())
    }

    fn kinds() -> impl Strategy<Value = CheckKind> {
        let port = || prop::option::of((1..=65_535_u32).prop_map(|n| Port::try_from(n).unwrap()));
        let headers = prop::collection::btree_map("[a-w][a-z0-9-]{0,8}x", "[!-~]([ -~]{0,8}[!-~])?", 0..4);
        let http =
            (port(), "/[!-\"$-~]{0,20}", headers, 0..3_usize).prop_map(|(port, path, headers, method)| {
                let method = ["GET", "HEAD", "OPTIONS"][method].parse().unwrap();
                let headers = headers.try_into().unwrap();
                CheckKind::Http(HttpCheck { port, method, headers, ..HttpCheck::get(path.parse().unwrap()) })
            });
        prop_oneof![
            http,
            port().prop_map(|port| CheckKind::Tcp { port }),
            (port(), "[a-z./]{0,20}")
                .prop_map(|(port, service)| CheckKind::Grpc { port, service: service.parse().unwrap() }),
            Just(CheckKind::Ttl),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(
            kind in kinds(),
            (interval, timeout) in (spans(), spans()),
            (passes, failures, jitter) in (1..=255_u8, 1..=255_u8, 0..=50_u32),
            remove_after in prop::option::of(spans()),
            damping in prop::option::of((1..=255_u8, spans())),
        ) {
            let number = |n: u8| NonZeroU8::new(n).unwrap();
            let check = Check {
                interval,
                timeout,
                passes: number(passes),
                failures: number(failures),
                jitter: jitter.try_into().unwrap(),
                remove_after,
                damping: damping.map(|(changes, within)| Damping { changes: number(changes), within }),
                ..Check::new(kind)
            };
            let text = check.to_string();
            prop_assert!(text.len() <= CHECK_LEN_MAX);
            prop_assert_eq!(text.parse::<Check>().unwrap(), check);
        }
    }
}
