//! The register, and the ways in which a question or an answer can go astray.

use hotpair_replica::protocol::{Answer, Request, View};

#[derive(Debug, Default)]
pub(crate) struct Arbiter {
    pub(crate) view: Option<View>,
}

impl Arbiter {
    pub(crate) fn land(&mut self, request: Request) -> Answer {
        match request {
            Request::Read => Answer::Current(self.view),
            Request::CompareAndSet { expected, view } => {
                if self.view.map_or(0, |view| view.number) == expected {
                    self.view = Some(view);
                    Answer::Won(view)
                } else {
                    Answer::Lost(self.view)
                }
            }
        }
    }
}
