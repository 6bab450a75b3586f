//! Without the feature `peers` there is nobody to compare with.

use std::convert::Infallible;
use std::path::Path;

use crate::options::MessageSize;
use crate::registry::BenchError;

pub(super) const THERE: bool = false;

pub(super) fn describe(_: MessageSize) -> String {
    String::new()
}

fn not_there<T>() -> Result<T, BenchError> {
    Err(BenchError::setup("find the peer")("it is not built in"))
}

pub(super) struct Sender(Infallible);

impl Sender {
    pub(super) fn open(_: &Path, _: usize, _: usize) -> Result<Self, BenchError> {
        not_there()
    }
}

impl super::Sender for Sender {
    fn send(&mut self, _: u64, _: &[u8]) -> Result<(), BenchError> {
        match self.0 {}
    }
}

pub(super) struct Receiver(Infallible);

impl Receiver {
    pub(super) fn open(_: &Path, _: usize, _: usize) -> Result<Self, BenchError> {
        not_there()
    }
}

impl super::Receiver for Receiver {
    fn receive(&mut self, _: u64, _: &mut impl FnMut(&[u8])) -> Result<u64, BenchError> {
        match self.0 {}
    }

    fn sleep(&mut self) {
        match self.0 {}
    }
}
