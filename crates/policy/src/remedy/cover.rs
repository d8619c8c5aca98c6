//! The fewest candidates that cover all elements: set cover, exact within bounds.
//!
//! Most elements have one candidate, and most candidates cover nothing that another does not cover
//! too, so what is left for the search is small. Where it is not, the answer is a good cover, and
//! says that it may not be the smallest.

use std::collections::{BTreeSet, HashMap};

/// Deepest search; a larger cover than this is only improved by reductions.
const MAX_DEPTH: usize = 48;

/// How much work a whole question may cost, in looks at an element or a candidate.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Self {
        Self(3_000_000)
    }

    /// Whether there is enough left for this much work.
    fn spend(&mut self, work: usize) -> bool {
        let enough = self.0 > work;
        self.0 = self.0.saturating_sub(work);
        enough
    }
}

/// A cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cover {
    /// The chosen candidates, in order.
    pub(super) chosen: Vec<usize>,
    /// No smaller one exists.
    pub(super) minimal: bool,
}

/// Chooses candidates so that each element has one of those that it lists. Among equal candidates
/// the lower number is taken. `None` if an element lists none.
pub(super) fn smallest(elements: Vec<Vec<usize>>, budget: &mut Budget) -> Option<Cover> {
    let mut elements: BTreeSet<Vec<usize>> = elements
        .into_iter()
        .map(|mut element| {
            element.sort_unstable();
            element.dedup();
            element
        })
        .collect();
    if elements.first().is_some_and(Vec::is_empty) {
        return None;
    }
    let mut chosen = BTreeSet::new();
    let mut reduced = true;
    while reduced {
        take_forced(&mut elements, &mut chosen);
        reduced = drop_dominated(&mut elements, budget);
    }
    let mut cover = Cover { chosen: chosen.into_iter().collect(), minimal: true };
    for component in components(elements) {
        let part = Search::new(component, budget).run();
        cover.chosen.extend(part.chosen);
        cover.minimal &= part.minimal;
    }
    cover.chosen.sort_unstable();
    Some(cover)
}

/// Takes the candidate of each element that has only one.
fn take_forced(elements: &mut BTreeSet<Vec<usize>>, chosen: &mut BTreeSet<usize>) {
    let forced: BTreeSet<usize> =
        elements.iter().filter(|e| e.len() == 1).flatten().copied().collect();
    elements.retain(|element| !element.iter().any(|c| forced.contains(c)));
    chosen.extend(forced);
}

fn covered_by(elements: &[&Vec<usize>]) -> HashMap<usize, Vec<usize>> {
    let mut covers: HashMap<usize, Vec<usize>> = HashMap::new();
    for (index, element) in elements.iter().enumerate() {
        for candidate in *element {
            covers.entry(*candidate).or_default().push(index);
        }
    }
    covers
}

/// Drops candidates that cover nothing which another one does not cover. Returns whether it did.
fn drop_dominated(elements: &mut BTreeSet<Vec<usize>>, budget: &mut Budget) -> bool {
    let list: Vec<&Vec<usize>> = elements.iter().collect();
    let covers = covered_by(&list);
    let mut candidates: Vec<usize> = covers.keys().copied().collect();
    candidates.sort_unstable();
    let mut dropped = BTreeSet::new();
    for candidate in candidates {
        let mine = &covers[&candidate];
        let Some(rarest) = mine.iter().min_by_key(|e| list[**e].len()) else {
            continue;
        };
        let dominates = |other: usize| {
            let theirs = &covers[&other];
            other != candidate
                && !dropped.contains(&other)
                && (theirs.len() > mine.len() || theirs.len() == mine.len() && other < candidate)
                && is_subset(mine, theirs)
        };
        let work: usize = list[*rarest].iter().map(|c| covers[c].len().min(4 * mine.len())).sum();
        if !budget.spend(work) {
            break;
        }
        if list[*rarest].iter().any(|other| dominates(*other)) {
            dropped.insert(candidate);
        }
    }
    if dropped.is_empty() {
        return false;
    }
    *elements = std::mem::take(elements)
        .into_iter()
        .map(|mut element| {
            element.retain(|candidate| !dropped.contains(candidate));
            element
        })
        .collect();
    true
}

/// Of two sorted lists.
fn is_subset(few: &[usize], many: &[usize]) -> bool {
    few.len() <= many.len() && few.iter().all(|item| many.binary_search(item).is_ok())
}

/// Elements that share candidates, directly or through others, together.
fn components(elements: BTreeSet<Vec<usize>>) -> Vec<Vec<Vec<usize>>> {
    let list: Vec<&Vec<usize>> = elements.iter().collect();
    let covers = covered_by(&list);
    let mut component = vec![usize::MAX; list.len()];
    let mut count = 0;
    for start in 0..list.len() {
        if component[start] != usize::MAX {
            continue;
        }
        let mut open = vec![start];
        component[start] = count;
        let mut visited = BTreeSet::new();
        while let Some(element) = open.pop() {
            for candidate in list[element] {
                if visited.insert(*candidate) {
                    for next in &covers[candidate] {
                        if component[*next] == usize::MAX {
                            component[*next] = count;
                            open.push(*next);
                        }
                    }
                }
            }
        }
        count += 1;
    }
    let mut parts = vec![Vec::new(); count];
    for (element, part) in elements.into_iter().zip(component) {
        parts[part].push(element);
    }
    parts
}

/// Branch and bound over one component.
struct Search<'a> {
    elements: Vec<Vec<usize>>,
    covers: HashMap<usize, Vec<usize>>,
    /// How many chosen candidates cover each element.
    covered: Vec<u32>,
    chosen: Vec<usize>,
    best: Vec<usize>,
    minimal: bool,
    budget: &'a mut Budget,
}

impl<'a> Search<'a> {
    fn new(elements: Vec<Vec<usize>>, budget: &'a mut Budget) -> Self {
        let covers = covered_by(&elements.iter().collect::<Vec<_>>());
        let covered = vec![0; elements.len()];
        Self {
            elements,
            covers,
            covered,
            chosen: Vec::new(),
            best: Vec::new(),
            minimal: true,
            budget,
        }
    }

    fn run(mut self) -> Cover {
        self.best = self.greedy();
        if self.best.len() > self.bound() {
            if self.best.len() > MAX_DEPTH {
                self.minimal = false;
            } else {
                self.branch();
            }
        }
        Cover { chosen: self.best, minimal: self.minimal }
    }

    /// Takes what covers most of what is open, again and again. Counts are kept up to date, so this
    /// is as long as all lists together.
    fn greedy(&self) -> Vec<usize> {
        let mut open: HashMap<usize, usize> =
            self.covers.iter().map(|(candidate, list)| (*candidate, list.len())).collect();
        let mut queue: BTreeSet<(usize, std::cmp::Reverse<usize>)> =
            open.iter().map(|(candidate, n)| (*n, std::cmp::Reverse(*candidate))).collect();
        let mut covered = vec![false; self.elements.len()];
        let mut chosen = Vec::new();
        while let Some((gain, std::cmp::Reverse(candidate))) = queue.pop_last() {
            if gain == 0 {
                break;
            }
            chosen.push(candidate);
            for element in &self.covers[&candidate] {
                if std::mem::replace(&mut covered[*element], true) {
                    continue;
                }
                for other in &self.elements[*element] {
                    if let Some(n) = open.get_mut(other) {
                        queue.remove(&(*n, std::cmp::Reverse(*other)));
                        *n -= 1;
                        if *other != candidate {
                            queue.insert((*n, std::cmp::Reverse(*other)));
                        }
                    }
                }
            }
        }
        chosen
    }

    /// Open elements of which no two share a candidate: each needs one of its own.
    fn bound(&self) -> usize {
        let mut taken: BTreeSet<usize> = BTreeSet::new();
        let mut count = 0;
        for (element, covered) in self.elements.iter().zip(&self.covered) {
            if *covered == 0 && !element.iter().any(|c| taken.contains(c)) {
                taken.extend(element.iter().copied());
                count += 1;
            }
        }
        count
    }

    /// Tries all that could be better than the best. The depth stays below [`MAX_DEPTH`].
    fn branch(&mut self) {
        let work: usize = self.elements.iter().map(Vec::len).sum();
        if !self.budget.spend(work) {
            self.minimal = false;
            return;
        }
        let open = (0..self.elements.len()).filter(|e| self.covered[*e] == 0);
        let Some(element) = open.min_by_key(|e| self.elements[*e].len()) else {
            self.best.clone_from(&self.chosen);
            return;
        };
        if self.chosen.len() + self.bound() >= self.best.len() {
            return;
        }
        for candidate in self.elements[element].clone() {
            self.mark(candidate, 1);
            self.chosen.push(candidate);
            if self.chosen.len() < self.best.len() {
                self.branch();
            }
            self.chosen.pop();
            self.mark(candidate, -1);
        }
    }

    fn mark(&mut self, candidate: usize, by: i32) {
        for element in &self.covers[&candidate] {
            self.covered[*element] = self.covered[*element].saturating_add_signed(by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brute(elements: &[Vec<usize>], candidates: usize) -> Option<usize> {
        (0..1_u32 << candidates)
            .filter(|set| elements.iter().all(|e| e.iter().any(|c| set & (1 << c) != 0)))
            .map(|set| set.count_ones() as usize)
            .min()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn no_cover_is_smaller(
            elements in prop::collection::vec(prop::collection::vec(0..9_usize, 0..4), 0..12)
        ) {
            let cover = smallest(elements.clone(), &mut Budget::new());
            prop_assert_eq!(cover.as_ref().map(|c| c.chosen.len()), brute(&elements, 9));
            if let Some(cover) = cover {
                prop_assert!(cover.minimal);
                for element in &elements {
                    prop_assert!(element.iter().any(|c| cover.chosen.contains(c)));
                }
            }
        }

        #[test]
        fn without_a_budget_it_is_still_a_cover(
            elements in prop::collection::vec(prop::collection::vec(0..9_usize, 1..4), 0..12)
        ) {
            let cover = smallest(elements.clone(), &mut Budget(0)).unwrap();
            let least = brute(&elements, 9).unwrap();
            prop_assert!(cover.chosen.len() >= least);
            prop_assert!(!cover.minimal || cover.chosen.len() == least);
            for element in &elements {
                prop_assert!(element.iter().any(|c| cover.chosen.contains(c)));
            }
        }
    }

    #[test]
    fn of_equal_candidates_the_first_is_taken() {
        let cover = smallest(vec![vec![3, 1], vec![1, 3]], &mut Budget::new()).unwrap();
        assert_eq!(cover.chosen, [1]);
    }

    #[test]
    fn a_hard_case_ends_soon_and_says_so() {
        // A ring of pairs that no reduction touches, of odd length.
        let ring = (0..4_001).map(|n| vec![n, (n + 1) % 4_001]).collect();
        let cover = smallest(ring, &mut Budget::new()).unwrap();
        assert!(!cover.minimal && cover.chosen.len() >= 2_001, "{}", cover.chosen.len());
    }
}
