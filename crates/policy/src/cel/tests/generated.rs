//! Expressions made from bytes, so that proptest can shrink them.

use proptest::prelude::*;

/// Types that are made; lists and maps of a few kinds are enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Time,
    Length,
    Ints,
    Texts,
    Map,
}

const ALL: [Made; 11] = [
    Made::Bool,
    Made::Int,
    Made::Uint,
    Made::Double,
    Made::Text,
    Made::Bytes,
    Made::Time,
    Made::Length,
    Made::Ints,
    Made::Texts,
    Made::Map,
];

/// Whether an operand may be of a wrong type, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typing {
    Right,
    Loose,
}

/// An expression of any type.
pub(super) fn expression(typing: Typing) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<u8>(), 0..120).prop_map(move |bytes| {
        let mut maker = Maker { bytes: bytes.into_iter(), typing, locals: Vec::new() };
        let made = maker.pick(&ALL);
        maker.make(made, 5)
    })
}

struct Maker {
    bytes: std::vec::IntoIter<u8>,
    typing: Typing,
    locals: Vec<(String, Made)>,
}

impl Maker {
    /// Without bytes the first is taken, so that it ends.
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.bytes.next().unwrap_or(0)) % count
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn make(&mut self, wanted: Made, depth: usize) -> String {
        let is_wrong = self.typing == Typing::Loose && self.below(16) == 15;
        let wanted = if is_wrong { self.pick(&ALL) } else { wanted };
        let locals: Vec<String> = self
            .locals
            .iter()
            .filter(|(_, made)| *made == wanted)
            .map(|(name, _)| name.clone())
            .collect();
        if !locals.is_empty() && self.below(2) == 1 {
            let at = self.below(locals.len());
            return locals[at].clone();
        }
        if depth == 0 || self.bytes.len() == 0 || self.below(5) == 0 {
            return self.leaf(wanted).to_owned();
        }
        self.compound(wanted, depth - 1)
    }

    fn leaf(&mut self, wanted: Made) -> &'static str {
        match wanted {
            Made::Bool => self.pick(&[
                "true",
                "false",
                "finding.kev",
                "finding.fixable",
                "has(finding.epss)",
                "has(finding.cvss)",
                "has(image.labels.team)",
            ]),
            Made::Int => self.pick(&[
                "0",
                "1",
                "2",
                "-1",
                "7",
                "9223372036854775807",
                "-9223372036854775808",
                "0x10",
            ]),
            Made::Uint => self.pick(&["0u", "1u", "3u", "18446744073709551615u"]),
            Made::Double => {
                self.pick(&["0.0", "1.0", "-2.5", "1e3", "finding.cvss", "finding.epss"])
            }
            Made::Text => self.pick(&[
                "''",
                "'a'",
                "\"abc\"",
                "'é😀'",
                "'5.6'",
                "r'\\d'",
                "finding.id",
                "finding.severity",
                "finding.package",
                "finding.path",
                "image.labels.team",
                "image.user",
                "request.namespace",
                "request.kind",
            ]),
            Made::Bytes => self.pick(&["b''", "b'a'", "b'\\xff'", "b'abc'"]),
            Made::Time => self.pick(&[
                "now",
                "image.created",
                "finding.published",
                "finding.fixed",
                "timestamp('2026-01-31T12:00:00Z')",
                "timestamp('1969-12-31T23:59:59.5Z')",
            ]),
            Made::Length => self.pick(&[
                "duration('1h')",
                "duration('-1.5s')",
                "duration('8760h')",
                "duration('0')",
                "duration('1ms')",
            ]),
            Made::Ints => self.pick(&["[]", "[1]", "[1, 2, 3]", "[0, 7]"]),
            Made::Texts => self.pick(&[
                "[]",
                "['a']",
                "['b', 'a', 'b']",
                "finding.aliases",
                "image.references",
                "image.manifestDigests",
            ]),
            Made::Map => self.pick(&["{}", "{'a': 1}", "{'b': 2, 'a': 1}"]),
        }
    }

    fn compound(&mut self, wanted: Made, depth: usize) -> String {
        let which = self.below(12);
        if which == 11 {
            let test = self.make(Made::Bool, depth);
            let (then, otherwise) = (self.make(wanted, depth), self.make(wanted, depth));
            return format!("({test} ? {then} : {otherwise})");
        }
        match wanted {
            Made::Bool => self.truth(which, depth),
            Made::Int => match which {
                0..=4 => self.between(&["+", "-", "*", "/", "%"], Made::Int, depth),
                5 => format!("(-({}))", self.make(Made::Int, depth)),
                6 => {
                    let of =
                        self.pick(&[Made::Text, Made::Bytes, Made::Ints, Made::Texts, Made::Map]);
                    let of = self.make(of, depth);
                    self.pick(&["size(#)", "#.size()"]).replace('#', &of)
                }
                7 => {
                    let of =
                        self.pick(&[Made::Int, Made::Uint, Made::Double, Made::Text, Made::Time]);
                    format!("int({})", self.make(of, depth))
                }
                8 => self.index(Made::Ints, Made::Int, depth),
                9 => self.index(Made::Map, Made::Text, depth),
                _ => {
                    let part = self.pick(&[
                        "getFullYear()",
                        "getMonth()",
                        "getDate()",
                        "getDayOfMonth()",
                        "getDayOfWeek()",
                        "getDayOfYear()",
                        "getHours()",
                        "getMinutes()",
                        "getSeconds()",
                        "getMilliseconds()",
                        "getDate('+05:30')",
                        "getHours('-08:00')",
                        "getHours('UTC')",
                    ]);
                    format!("{}.{part}", self.make(Made::Time, depth))
                }
            },
            Made::Uint => match which {
                0..=6 => self.between(&["+", "-", "*", "/", "%"], Made::Uint, depth),
                _ => {
                    let of = self.pick(&[Made::Uint, Made::Int, Made::Double, Made::Text]);
                    format!("uint({})", self.make(of, depth))
                }
            },
            Made::Double => match which {
                0..=5 => self.between(&["+", "-", "*"], Made::Double, depth),
                // Never by zero: the other implementation has no order for what is no number.
                6 => format!("({} / 2.0)", self.make(Made::Double, depth)),
                7 => format!("(-({}))", self.make(Made::Double, depth)),
                _ => {
                    let of = self.pick(&[Made::Double, Made::Int, Made::Uint, Made::Text]);
                    format!("double({})", self.make(of, depth))
                }
            },
            Made::Text => match which {
                0..=4 => self.between(&["+"], Made::Text, depth),
                5 | 6 => self.index(Made::Texts, Made::Int, depth),
                7 => format!("image.labels[{}]", self.make(Made::Text, depth)),
                _ => {
                    let of = self.pick(&[
                        Made::Text,
                        Made::Bool,
                        Made::Int,
                        Made::Uint,
                        Made::Bytes,
                        Made::Time,
                        Made::Length,
                    ]);
                    format!("string({})", self.make(of, depth))
                }
            },
            Made::Bytes => match which {
                0..=5 => self.between(&["+"], Made::Bytes, depth),
                _ => format!("bytes({})", self.make(Made::Text, depth)),
            },
            Made::Time => {
                let (time, length) = (self.make(Made::Time, depth), self.make(Made::Length, depth));
                match which {
                    0..=3 => format!("({time} + {length})"),
                    4..=6 => format!("({time} - {length})"),
                    7 | 8 => format!("({length} + {time})"),
                    _ => format!("timestamp(string({time}))"),
                }
            }
            Made::Length => match which {
                0..=4 => self.between(&["+", "-"], Made::Length, depth),
                _ => self.between(&["-"], Made::Time, depth),
            },
            Made::Ints => self.list(which, Made::Ints, Made::Int, depth),
            Made::Texts => self.list(which, Made::Texts, Made::Text, depth),
            Made::Map => {
                let (key, value) = (self.make(Made::Text, depth), self.make(Made::Int, depth));
                format!("{{{key}: {value}, 'z': 1}}")
            }
        }
    }

    fn between(&mut self, operators: &[&str], made: Made, depth: usize) -> String {
        let operator = self.pick(operators);
        format!("({} {operator} {})", self.make(made, depth), self.make(made, depth))
    }

    fn index(&mut self, container: Made, key: Made, depth: usize) -> String {
        format!("{}[{}]", self.make(container, depth), self.make(key, depth))
    }

    fn truth(&mut self, which: usize, depth: usize) -> String {
        match which {
            0 | 1 => {
                let operator = self.pick(&["&&", "||"]);
                let operands: Vec<_> =
                    (0..2 + self.below(2)).map(|_| self.make(Made::Bool, depth)).collect();
                format!("({})", operands.join(&format!(" {operator} ")))
            }
            2 => format!("!{}", self.make(Made::Bool, depth)),
            3 | 4 => {
                let made = self.pick(&ALL);
                self.between(&["==", "!="], made, depth)
            }
            5 => {
                let made = self.pick(&ALL[..8]);
                self.between(&["<", "<=", ">", ">="], made, depth)
            }
            6 => {
                let (list, element) = self.pick(&[
                    (Made::Ints, Made::Int),
                    (Made::Texts, Made::Text),
                    (Made::Map, Made::Text),
                ]);
                format!("({} in {})", self.make(element, depth), self.make(list, depth))
            }
            7 => {
                let function = self.pick(&["contains", "startsWith", "endsWith"]);
                format!(
                    "{}.{function}({})",
                    self.make(Made::Text, depth),
                    self.make(Made::Text, depth)
                )
            }
            8 => {
                let pattern =
                    self.pick(&["'a'", "'^a'", "r'\\d+$'", "'(?i)B|C'", "'[a-c]{2}'", "''"]);
                format!("{}.matches({pattern})", self.make(Made::Text, depth))
            }
            _ => {
                let name = self.pick(&["all", "exists", "exists_one"]);
                self.call_macro(name, Made::Bool, depth)
            }
        }
    }

    fn call_macro(&mut self, name: &str, result: Made, depth: usize) -> String {
        // The order of a map's keys is left open, so no list is made of one.
        let ranges = [(Made::Ints, Made::Int), (Made::Texts, Made::Text), (Made::Map, Made::Text)];
        let (range, element) = self.pick(if name == "map" { &ranges[..2] } else { &ranges });
        self.macro_over(name, range, element, result, depth)
    }

    fn macro_over(
        &mut self,
        name: &str,
        range: Made,
        element: Made,
        result: Made,
        depth: usize,
    ) -> String {
        let range = self.make(range, depth);
        let local = format!("v{}", self.locals.len());
        self.locals.push((local.clone(), element));
        let part = self.make(result, depth);
        self.locals.pop();
        format!("{range}.{name}({local}, {part})")
    }

    fn list(&mut self, which: usize, list: Made, element: Made, depth: usize) -> String {
        match which {
            0..=2 => {
                let count = self.below(4);
                let elements: Vec<_> = (0..count).map(|_| self.make(element, depth)).collect();
                format!("[{}]", elements.join(", "))
            }
            3..=5 => self.between(&["+"], list, depth),
            6..=8 => self.call_macro("map", element, depth),
            _ => self.macro_over("filter", list, element, Made::Bool, depth),
        }
    }
}
