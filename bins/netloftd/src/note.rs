//! What the agent remembers with an endpoint, so that the next process can take up where this one stopped.

use netloft_types::ServiceSpec;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::process::Trace;

/// What the agent knows of an endpoint beyond the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Note {
    /// The service that the sandbox offers.
    pub(crate) service: Option<ServiceSpec>,
    /// The process whose end detaches it.
    pub(crate) keeper: Option<Trace>,
    /// The process that runs in it.
    pub(crate) process: Option<Trace>,
}

impl Note {
    /// Reads a note; one that cannot be read says nothing.
    pub(crate) fn read(text: Option<&str>) -> Self {
        let read = |text| serde_json::from_str(text).map_err(|error| warn!(%error, "a note cannot be read"));
        text.and_then(|text| read(text).ok()).unwrap_or_default()
    }

    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a note is made of text and numbers, with text for keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_as_it_was_written_and_nonsense_says_nothing() {
        let service = ServiceSpec::new("api".parse().unwrap(), "80".parse().unwrap());
        let note = Note { service: Some(service), keeper: Some(Trace { pid: 7, started: 9 }), process: None };
        assert_eq!(Note::read(Some(&note.to_text())), note);
        for nonsense in [None, Some(""), Some("{\"keeper\":7}")] {
            assert_eq!(Note::read(nonsense), Note::default());
        }
    }
}
