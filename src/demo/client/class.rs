//! Classes of clients: each with a rate of its own, and a gap of its own when something breaks.

use serde::Deserialize;

use super::ledger::Target;
use crate::demo::wire::{Answer, KEYLESS};

/// The first objects are the hot ones, where there are such.
pub(crate) const HOT_OBJECTS: u32 = 16;

/// Who asks for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// Each request is for one of many objects.
    Many,
    /// All are for a few, so that they wait for each other.
    Hot,
    /// Each is for an object of its own, which lives for this one request.
    New,
}

impl Class {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Class::Many => "many",
            Class::Hot => "hot",
            Class::New => "new",
        }
    }

    /// What its request with this number is for. `objects` with a key are there, more than the hot ones.
    pub(super) fn target(self, number: u64, objects: u32) -> Target {
        match self {
            Class::New => Target::Keyless,
            Class::Hot => Target::Object(scattered(number, HOT_OBJECTS)),
            Class::Many => {
                Target::Object(HOT_OBJECTS + scattered(number, objects.saturating_sub(HOT_OBJECTS)))
            }
        }
    }

    /// Whose answer it is.
    pub(super) fn of(answer: &Answer) -> Class {
        match answer.object() {
            KEYLESS => Class::New,
            object if object < HOT_OBJECTS => Class::Hot,
            _ => Class::Many,
        }
    }
}

/// An object below `count`: scattered, so that an object's requests come in bursts as well as alone.
pub(super) fn scattered(number: u64, count: u32) -> u32 {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let object = scattered % u64::from(count.max(1));
    u32::try_from(object).expect("below a count that is a u32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::wire::{Request, State};

    /// Goal: the answer to a request of a class counts for this class and for no other.
    #[test]
    fn answers_are_counted_for_the_class_that_asked() {
        for class in [Class::Many, Class::Hot, Class::New] {
            for number in 0..1_000 {
                let object = match class.target(number, 64) {
                    Target::Object(object) => object,
                    Target::Keyless => KEYLESS,
                };
                assert!(object < 64 || object == KEYLESS);
                let request = Request::new(object, 1, number);
                let answer = Answer::new(&request, &State::default(), 1, b'a');
                assert_eq!(Class::of(&answer), class, "{number}");
            }
        }
    }
}
