//! Values with a layout: what another version of a type wrote is refused, not misread.
//!
//! ```text
//!   value:  ├── T, as it lies in memory ──┤ layout: u64 ┤
//! ```
//!
//! The number is made of the names, places and types of all fields. It stands behind the value, so that programs in other languages
//! find the structure at the start.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::Error;
use crate::job::Job;

/// A type whose layout is known by a number; `#[derive(Record)]` (feature `derive`) makes structures records whose fields are.
///
/// ```
/// use hotpair_worker::{Record, Wait, testing::Pair};
/// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
///
/// #[derive(Record, FromBytes, IntoBytes, KnownLayout, Immutable)]
/// #[repr(C)]
/// struct Dialog {
///     answered: u64,
///     cost: [u32; 2],
/// }
///
/// # let mut pair = Pair::new(&["calls"], &[]);
/// # pair.deliver("calls", b"call-1", b"INVITE");
/// # let mut worker = pair.worker("calls");
/// # let mut call = worker.claim(Wait::none())?.expect("it is ready");
/// call.record_mut::<Dialog>()?.answered += 1; // zeros in a new object
/// assert_eq!(call.record::<Dialog>()?.map(|dialog| dialog.answered), Some(1));
/// assert!(call.record::<[u64; 2]>().is_err()); // as long, and something else
/// # call.commit()?;
/// # Ok::<(), hotpair_worker::Error>(())
/// ```
pub trait Record: FromBytes + IntoBytes + KnownLayout + Immutable {
    /// Of no two layouts the same, for all that is likely.
    const HASH: u64;
}

/// What the derived code is made of.
#[doc(hidden)]
pub mod layout {
    const fn bytes(mut hash: u64, bytes: &[u8]) -> u64 {
        let mut at = 0;
        while at < bytes.len() {
            // FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
            hash = (hash ^ bytes[at] as u64).wrapping_mul(0x100_0000_01b3);
            at += 1;
        }
        hash
    }

    const fn number(hash: u64, number: u64) -> u64 {
        bytes(hash, &number.to_le_bytes())
    }

    pub const fn begin(size: usize) -> u64 {
        number(0xcbf2_9ce4_8422_2325, size as u64)
    }

    pub const fn field(hash: u64, name: &str, offset: usize, kind: u64) -> u64 {
        let named = number(bytes(hash, name.as_bytes()), name.len() as u64);
        number(number(named, offset as u64), kind)
    }

    pub(super) const fn primitive(name: &str) -> u64 {
        bytes(begin(0), name.as_bytes())
    }

    pub(super) const fn array(kind: u64, length: usize) -> u64 {
        field(begin(length), "[]", 0, kind)
    }
}

macro_rules! primitives {
    ($($kind:ty),*) => {$(
        impl Record for $kind {
            const HASH: u64 = layout::primitive(stringify!($kind));
        }
    )*};
}

primitives!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64);

impl<T: Record, const LENGTH: usize> Record for [T; LENGTH] {
    const HASH: u64 = layout::array(T::HASH, LENGTH);
}

const TRAILER: usize = size_of::<u64>();

fn check<T: Record>(value: &[u8]) -> Result<(), Error> {
    let found = value.last_chunk().map_or(0, |layout| u64::from_le_bytes(*layout));
    if found == T::HASH && value.len() == size_of::<T>() + TRAILER {
        return Ok(());
    }
    Err(Error::Layout {
        found,
        found_bytes: value.len(),
        wanted: T::HASH,
        wanted_bytes: size_of::<T>() + TRAILER,
        name: std::any::type_name::<T>(),
    })
}

/// The record in a value; `None` while that is empty.
fn of<T: Record>(value: &[u8]) -> Result<Option<&T>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    check::<T>(value)?;
    let size = value.len();
    T::ref_from_bytes(&value[..size_of::<T>()]).map(Some).map_err(|_| crate::job::shape::<T>(size))
}

fn of_mut<T: Record>(value: &mut [u8]) -> Result<&mut T, Error> {
    let size = value.len();
    T::mut_from_bytes(&mut value[..size_of::<T>()]).map_err(|_| crate::job::shape::<T>(size))
}

/// Zeros, and the layout.
fn empty<T: Record>() -> Vec<u8> {
    let mut value = vec![0; size_of::<T>()];
    value.extend_from_slice(&T::HASH.to_le_bytes());
    value
}

macro_rules! records_of {
    ($job:ty) => {
        impl $job {
            /// The value as the record `T`; `None` while it is empty, as in a new object.
            ///
            /// # Errors
            /// [`Error::Layout`] if it is not that of a `T` as this program knows it.
            pub fn record<T: Record>(&self) -> Result<Option<&T>, Error> {
                of(self.value())
            }

            /// The value as the record `T`, to be changed in place. An empty value becomes a zeroed `T`.
            ///
            /// # Errors
            /// As [`record`](Self::record).
            pub fn record_mut<T: Record>(&mut self) -> Result<&mut T, Error> {
                if self.value().is_empty() {
                    self.set_value(&empty::<T>())?;
                } else {
                    check::<T>(self.value())?;
                }
                of_mut(self.value_bytes_mut()?)
            }
        }
    };
}

records_of!(Job<'_>);
#[cfg(feature = "remote")]
records_of!(crate::remote::RemoteJob<'_>);
