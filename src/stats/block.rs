//! The one table of each thread's counters: from it come the struct, its initial state, and what `/metrics` shows.

use super::number::Number;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises. Its name on the page ends in `_total`.
    Counter,
    /// It rises and falls.
    Gauge,
}

/// One name on the page: a row of the table of a block of type `T`.
#[derive(Debug)]
pub struct Metric<T: 'static> {
    /// Its name, without the prefix `fanfare_`.
    pub name: &'static str,
    /// What it counts, in one paragraph.
    pub help: &'static str,
    /// Its values.
    pub values: Values<T>,
}

/// Where the values of a metric are.
#[derive(Debug)]
pub enum Values<T: 'static> {
    /// One number.
    One(Kind, NumberOf<T>),
    /// A number for each value of a label: the label's name, then value by value.
    Labelled(Kind, &'static str, &'static [(&'static str, NumberOf<T>)]),
    /// A number for each value of a closed set: the labels of each, and the numbers in the same order.
    BySet(fn() -> Vec<Labels>, fn(&T) -> &[Number]),
    /// A histogram, and how many of its units are one of what is shown: 1,000,000 for microseconds shown as seconds.
    Histogram(u32, fn(&T) -> Observations),
    /// A histogram for each value of a closed set: the labels of each, the units as above, and the histograms in the same
    /// order.
    HistogramBySet(fn() -> Vec<Labels>, u32, fn(&T) -> Vec<Observations>),
}

/// Where a block has a number.
pub type NumberOf<T> = fn(&T) -> &Number;

/// Labels of one value: their names, and what each is.
pub type Labels = Vec<(&'static str, String)>;

/// What a histogram has counted, as [`Histogram::read`](super::Histogram::read) returns it.
pub type Observations = (Vec<(u64, u64)>, u64, u64);

/// A closed set whose members are counted one by one.
pub trait Counted: Copy + 'static {
    /// Its members, in the order of their numbers.
    fn members() -> &'static [Self];

    /// The labels of a member on the page.
    fn labels(self) -> Labels;
}

/// The labels of all members of a set.
pub(super) fn labels_of<S: Counted>() -> Vec<Labels> {
    S::members().iter().map(|member| member.labels()).collect()
}

/// Defines a block of counters. The documentation of each field is its help on the page. `others` are fields that are not
/// on the page under their own name.
macro_rules! block {
    (
        $(#[$outer:meta])*
        pub struct $block:ident {
            counters { $( $(#[doc = $chelp:literal])+ $counter:ident: $cname:literal, )* }
            gauges { $( $(#[doc = $ghelp:literal])+ $gauge:ident: $gname:literal, )* }
            labelled { $(
                $kind:ident $fname:literal $fhelp:literal by $label:literal {
                    $( $(#[$lmeta:meta])+ $number:ident: $value:literal, )*
                }
            )* }
            sets { $( $(#[doc = $shelp:literal])+ $numbers:ident: $set:ty = $sname:literal, )* }
            histograms { $(
                $(#[doc = $hhelp:literal])+ $histogram:ident: [$bounds:ident; $count:literal] = $hname:literal / $unit:literal,
            )* }
            $(histograms_of_sets { $(
                $(#[doc = $mhelp:literal])+ $many:ident: $mset:ident [$mbounds:ident; $mcount:literal] = $mname:literal / $munit:literal,
            )* })?
            others { $( $(#[$ometa:meta])+ $visibility:vis $other:ident: $otype:ty = $initial:expr, )* }
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug)]
        #[repr(align(128))]
        pub struct $block {
            $( $(#[doc = $chelp])+ pub $counter: Number, )*
            $( $(#[doc = $ghelp])+ pub $gauge: Number, )*
            $($( $(#[$lmeta])+ pub $number: Number, )*)*
            $( $(#[doc = $shelp])+ pub $numbers: [Number; <$set>::ALL.len()], )*
            $( $(#[doc = $hhelp])+ pub $histogram: Histogram<$count>, )*
            $($( $(#[doc = $mhelp])+ pub $many: [Histogram<$mcount>; $mset::ALL.len()], )*)?
            $( $(#[$ometa])+ $visibility $other: $otype, )*
        }

        impl Default for $block {
            fn default() -> Self {
                Self {
                    $( $counter: Number::default(), )*
                    $( $gauge: Number::default(), )*
                    $($( $number: Number::default(), )*)*
                    $( $numbers: std::array::from_fn(|_| Number::default()), )*
                    $( $histogram: Histogram::new(&$bounds), )*
                    $($( $many: std::array::from_fn(|_| Histogram::new(&$mbounds)), )*)?
                    $( $other: $initial, )*
                }
            }
        }

        impl $block {
            /// What the page of metrics shows of it, row by row.
            pub const METRICS: &'static [Metric<Self>] = &[
                $( Metric {
                    name: $cname,
                    help: concat!($($chelp),+),
                    values: Values::One(Kind::Counter, |block| &block.$counter),
                }, )*
                $( Metric {
                    name: $gname,
                    help: concat!($($ghelp),+),
                    values: Values::One(Kind::Gauge, |block| &block.$gauge),
                }, )*
                $( Metric {
                    name: $fname,
                    help: $fhelp,
                    values: Values::Labelled(Kind::$kind, $label, &[ $( ($value, |block| &block.$number), )* ]),
                }, )*
                $( Metric {
                    name: $sname,
                    help: concat!($($shelp),+),
                    values: Values::BySet($crate::stats::block::labels_of::<$set>, |block| &block.$numbers),
                }, )*
                $( Metric {
                    name: $hname,
                    help: concat!($($hhelp),+),
                    values: Values::Histogram($unit, |block| block.$histogram.read()),
                }, )*
                $($( Metric {
                    name: $mname,
                    help: concat!($($mhelp),+),
                    values: Values::HistogramBySet(
                        $crate::stats::block::labels_of::<$mset>,
                        $munit,
                        |block| block.$many.iter().map(Histogram::read).collect(),
                    ),
                }, )*)?
            ];
        }
    };
}

pub(super) use block;
