//! The nearest of many vectors, by looking at all of them.
//!
//! Vectors stand twice: rounded to 8 bits, which is what a search reads, and exact, which decides
//! among the few that the first look found. Reading a quarter of the bytes takes a quarter of the
//! time, and the second look makes up for what rounding lost.

use std::collections::HashMap;

use simsimd::SpatialSimilarity;

use super::Embedding;

/// Vectors of a block. All but the first are made whole, so that growing never copies what is
/// there; the first grows, because most namespaces hold a few vectors only.
const BLOCK: usize = 1024;
/// Rounded vectors that are looked at exactly, beside those that were asked for.
const SECOND_LOOK: usize = 16;
/// What a table needs for an entry: the key, the place and a byte of its own, at the load after it
/// was doubled.
const TABLE_BYTES: usize = 40;

/// Vectors of one namespace, by their ids.
#[derive(Debug, Clone)]
pub struct Index {
    dimensions: usize,
    blocks: Vec<Block>,
    /// The place of each id: its block times [`BLOCK`] and its row.
    places: HashMap<u64, usize>,
}

#[derive(Debug, Clone, Default)]
struct Block {
    ids: Vec<u64>,
    /// What a step of a rounded number is worth, a row.
    steps: Vec<f32>,
    rough: Vec<i8>,
    exact: Vec<f32>,
}

/// The best of what was seen so far.
struct Best {
    most: usize,
    /// Best first.
    found: Vec<(u64, f32)>,
}

// === impl Index ===

impl Index {
    /// No vectors yet; all that come have so many `dimensions`.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, blocks: Vec::new(), places: HashMap::new() }
    }

    /// An index of these vectors. Of entries with the same id the last one stays; those with other
    /// dimensions are left out.
    pub fn from_entries<'a>(
        dimensions: usize,
        entries: impl IntoIterator<Item = (u64, &'a Embedding)>,
    ) -> Self {
        let mut index = Self::new(dimensions);
        for (id, embedding) in entries {
            index.insert(id, embedding);
        }
        index
    }

    /// Adds a vector, in place of one with the same id. `false` and nothing done where it has other
    /// dimensions: it comes from another embedder.
    pub fn insert(&mut self, id: u64, embedding: &Embedding) -> bool {
        if embedding.dimensions() != self.dimensions {
            return false;
        }
        self.remove(id);
        if self.blocks.last().is_none_or(|block| block.ids.len() == BLOCK) {
            let is_first = self.blocks.is_empty();
            self.blocks.push(if is_first { Block::default() } else { Block::new(self.dimensions) });
        }
        let index = self.blocks.len() - 1;
        if let Some(block) = self.blocks.last_mut() {
            self.places.insert(id, index * BLOCK + block.ids.len());
            block.push(id, embedding.values());
        }
        true
    }

    /// Takes a vector out; `false` where there was none. The last vector takes its place.
    pub fn remove(&mut self, id: u64) -> bool {
        let Some(place) = self.places.remove(&id) else { return false };
        let Some((last, values)) = self.blocks.last_mut().and_then(|b| b.pop(self.dimensions))
        else {
            return true;
        };
        if self.blocks.last().is_some_and(|block| block.ids.is_empty()) {
            self.blocks.pop();
        }
        if last != id
            && let Some(block) = self.blocks.get_mut(place / BLOCK)
        {
            block.set(place % BLOCK, last, &values);
            self.places.insert(last, place);
        }
        true
    }

    /// The ids of the `most` nearest vectors with their cosines, the nearest first. Empty where the
    /// dimensions differ.
    ///
    /// Cosines are exact. Which vectors are found is exact as long as no more than 16 others are
    /// nearer by less than rounding to 8 bits changes, which is about 0.003 for sentences.
    pub fn nearest(&self, to: &Embedding, most: usize) -> Vec<(u64, f32)> {
        if to.dimensions() != self.dimensions || most == 0 {
            return Vec::new();
        }
        let (query, _) = rounded(to.values());
        let mut first = Best::new(most.saturating_add(SECOND_LOOK));
        for (index, block) in self.blocks.iter().enumerate() {
            let rows = block.rough.chunks_exact(self.dimensions).zip(&block.steps);
            for (row, (rough, step)) in rows.enumerate() {
                let product = i8::dot(&query, rough).unwrap_or(0.0);
                first.offer((index * BLOCK + row) as u64, product as f32 * step);
            }
        }
        let mut best = Best::new(most);
        for (place, _) in first.found {
            let place = place as usize;
            let Some(block) = self.blocks.get(place / BLOCK) else { continue };
            let Some((id, values)) = block.row(place % BLOCK, self.dimensions) else { continue };
            let cosine = f32::dot(to.values(), values).unwrap_or(0.0) as f32;
            best.offer(id, cosine.clamp(-1.0, 1.0));
        }
        best.found
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many numbers a vector has.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The memory that the vectors take, in bytes.
    pub fn bytes(&self) -> u64 {
        let blocks: usize = self.blocks.iter().map(Block::bytes).sum();
        (blocks + self.places.capacity() * TABLE_BYTES) as u64
    }
}

// === impl Block ===

impl Block {
    fn new(dimensions: usize) -> Self {
        Self {
            ids: Vec::with_capacity(BLOCK),
            steps: Vec::with_capacity(BLOCK),
            rough: Vec::with_capacity(BLOCK * dimensions),
            exact: Vec::with_capacity(BLOCK * dimensions),
        }
    }

    fn bytes(&self) -> usize {
        self.ids.capacity() * size_of::<u64>()
            + (self.steps.capacity() + self.exact.capacity()) * size_of::<f32>()
            + self.rough.capacity()
    }

    fn push(&mut self, id: u64, values: &[f32]) {
        let (rough, step) = rounded(values);
        self.ids.push(id);
        self.steps.push(step);
        self.rough.extend(rough);
        self.exact.extend(values);
    }

    /// Takes out the last row.
    fn pop(&mut self, dimensions: usize) -> Option<(u64, Vec<f32>)> {
        let id = self.ids.pop()?;
        self.steps.pop();
        let rest = self.ids.len() * dimensions;
        self.rough.truncate(rest);
        Some((id, self.exact.split_off(rest)))
    }

    fn set(&mut self, row: usize, id: u64, values: &[f32]) {
        let (rough, step) = rounded(values);
        let start = row * values.len();
        let end = start + values.len();
        if let Some(place) = self.ids.get_mut(row) {
            *place = id;
        }
        if let Some(place) = self.steps.get_mut(row) {
            *place = step;
        }
        if let Some(places) = self.rough.get_mut(start..end) {
            places.copy_from_slice(&rough);
        }
        if let Some(places) = self.exact.get_mut(start..end) {
            places.copy_from_slice(values);
        }
    }

    fn row(&self, row: usize, dimensions: usize) -> Option<(u64, &[f32])> {
        let values = self.exact.get(row * dimensions..(row + 1) * dimensions)?;
        Some((*self.ids.get(row)?, values))
    }
}

/// Numbers in 255 steps from the least to the most that their largest allows, and what a step is.
fn rounded(values: &[f32]) -> (Vec<i8>, f32) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let step = largest.max(f32::MIN_POSITIVE) / f32::from(i8::MAX);
    // A cast stays within the range of the type.
    (values.iter().map(|value| (value / step).round() as i8).collect(), step)
}

// === impl Best ===

impl Best {
    fn new(most: usize) -> Self {
        Self { most, found: Vec::new() }
    }

    fn offer(&mut self, id: u64, score: f32) {
        let is_full = self.found.len() >= self.most;
        if is_full && self.found.last().is_none_or(|(_, worst)| score <= *worst) {
            return;
        }
        if is_full {
            self.found.pop();
        }
        let place = self.found.partition_point(|(_, better)| *better >= score);
        self.found.insert(place, (id, score));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMENSIONS: usize = 384;

    /// Vectors that are the same in every run: groups of neighbours, as questions are.
    fn vectors(count: usize, seed: u64) -> Vec<Embedding> {
        let mut state = seed;
        let mut number = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let centres: Vec<Vec<f32>> =
            (0..count / 20 + 1).map(|_| (0..DIMENSIONS).map(|_| number()).collect()).collect();
        let mut near = |centre: &Vec<f32>| {
            let values = centre.iter().map(|value| value + 0.6 * number()).collect();
            Embedding::towards(values).expect("a direction")
        };
        (0..count).map(|at| near(&centres[at % centres.len()])).collect()
    }

    fn index(vectors: &[Embedding]) -> Index {
        Index::from_entries(DIMENSIONS, (0..).zip(vectors))
    }

    /// What looking at every exact vector finds.
    fn truly_nearest(vectors: &[Embedding], to: &Embedding) -> (u64, f32) {
        let cosines = (0..).zip(vectors.iter().map(|vector| vector.cosine(to)));
        cosines.max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("a vector")
    }

    #[test]
    fn the_nearest_is_found_as_by_exact_comparison() {
        let vectors = vectors(1_300, 7);
        let (kept, asked) = vectors.split_at(1_200);
        let index = index(kept);
        let mut found = 0;
        for to in asked {
            let (id, cosine) = truly_nearest(kept, to);
            let nearest = index.nearest(to, 5);
            assert_eq!(nearest.len(), 5);
            assert!(nearest.is_sorted_by(|(_, a), (_, b)| a >= b), "{nearest:?}");
            if nearest[0].0 == id {
                assert!((nearest[0].1 - cosine).abs() < 1e-5);
                found += 1;
            }
        }
        assert_eq!(found, asked.len());
    }

    #[test]
    fn what_was_removed_is_not_found_and_all_else_is() {
        let vectors = vectors(2_200, 3);
        let mut index = index(&vectors);
        for id in (0..2_200).filter(|id| id % 3 != 0) {
            assert!(index.remove(id));
            assert!(!index.remove(id));
        }
        assert_eq!(index.len(), 734);
        for (id, vector) in (0..).zip(&vectors) {
            let nearest = index.nearest(vector, 1)[0];
            assert_eq!(nearest.0 == id, id % 3 == 0, "{id} found {nearest:?}");
        }
    }

    #[test]
    fn removing_everything_leaves_an_index_that_can_be_filled_again() {
        let vectors = vectors(1_100, 5);
        let mut index = index(&vectors);
        (0..1_100).for_each(|id| assert!(index.remove(id)));
        assert!(index.is_empty() && index.nearest(&vectors[0], 3).is_empty());
        assert!(index.insert(9, &vectors[1]));
        assert_eq!(index.nearest(&vectors[1], 3).len(), 1);
    }

    #[test]
    fn the_same_id_again_takes_the_place_of_the_old_vector() {
        let vectors = vectors(50, 11);
        let mut index = index(&vectors);
        assert!(index.insert(4, &vectors[30]));
        assert_eq!(index.len(), 50);
        let ids: Vec<u64> = index.nearest(&vectors[30], 2).iter().map(|(id, _)| *id).collect();
        assert!(ids.contains(&4) && ids.contains(&30), "{ids:?}");
    }

    #[test]
    fn vectors_of_another_embedder_are_refused() {
        let mut index = index(&vectors(3, 1));
        let other = Embedding::towards(vec![1.0, 2.0]).expect("a direction");
        assert!(!index.insert(7, &other));
        assert!(index.nearest(&other, 1).is_empty());
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn memory_grows_by_whole_blocks_and_shrinks_again() {
        let vectors = vectors(BLOCK + 1, 2);
        let mut index = index(&vectors[..BLOCK]);
        let one = index.bytes();
        let row = (DIMENSIONS * 5 + 12) as u64;
        assert!(one >= BLOCK as u64 * row && one < BLOCK as u64 * (row + 200), "{one}");
        index.insert(9_999, &vectors[BLOCK]);
        assert!(index.bytes() >= one + BLOCK as u64 * row);
        index.remove(9_999);
        assert!(index.bytes() < one + BLOCK as u64 * row);
    }

    #[test]
    fn what_has_no_direction_is_no_embedding() {
        assert!(Embedding::towards(vec![]).is_none());
        assert!(Embedding::towards(vec![0.0; 3]).is_none());
        assert!(Embedding::towards(vec![1.0, f32::NAN]).is_none());
        assert!(Embedding::towards(vec![f32::INFINITY, 1.0]).is_none());
        let long = Embedding::towards(vec![f32::MAX, f32::MAX]).expect("a direction");
        assert!((long.cosine(&long) - 1.0).abs() < 1e-6);
    }
}
