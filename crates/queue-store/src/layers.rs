//! The newest writes in memory above the index: what comes and goes within a second never reaches it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::index::{Index, IndexError, Key, Value, Write};
use crate::keys;

/// Entries of the index read at once while layers are merged.
const PAGE: usize = 256;

type Layer = BTreeMap<Key, Slot>;

/// What the layer says of a key.
#[derive(Debug, Clone)]
struct Slot {
    value: Option<Value>,
    /// No lower layer has the key, so that its removal leaves no trace.
    fresh: bool,
}

/// The index below, what is on its way into it, and what came since.
pub struct Layers {
    base: Arc<dyn Index>,
    frozen: Option<Arc<Layer>>,
    active: Layer,
}

impl Layers {
    pub fn new(base: Arc<dyn Index>) -> Self {
        Self { base, frozen: None, active: Layer::new() }
    }

    /// The index below.
    pub fn base(&self) -> Arc<dyn Index> {
        self.base.clone()
    }

    /// Entries that the index does not have yet, without those on their way.
    pub fn pending(&self) -> usize {
        self.active.len()
    }

    /// Whether an earlier layer is still on its way into the index.
    pub fn is_freezing(&self) -> bool {
        self.frozen.is_some()
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        if let Some(slot) = self.active.get(key) {
            return Ok(slot.value.as_ref().map(|value| value.to_vec()));
        }
        if let Some(slot) = self.frozen.as_ref().and_then(|layer| layer.get(key)) {
            return Ok(slot.value.as_ref().map(|value| value.to_vec()));
        }
        self.base.get(key)
    }

    /// Writes a key. `new` states that no layer has it.
    pub fn put(&mut self, key: Key, value: Value, new: bool) {
        let fresh = new || self.active.get(&key).is_some_and(|slot| slot.fresh);
        self.active.insert(key, Slot { value: Some(value), fresh });
    }

    pub fn remove(&mut self, key: Key) {
        if self.active.get(&key).is_some_and(|slot| slot.fresh) {
            self.active.remove(&key);
        } else {
            self.active.insert(key, Slot { value: None, fresh: false });
        }
    }

    /// The first `limit` entries with `from <= key < until`.
    pub fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Vec<(Key, Value)>, IndexError> {
        let mut out = Vec::new();
        if from >= until {
            return Ok(out);
        }
        let bounds = (Bound::Included(from), Bound::Excluded(until));
        let mut active = self.active.range::<[u8], _>(bounds).peekable();
        let mut frozen = self.frozen.as_ref().map(|layer| layer.range::<[u8], _>(bounds).peekable());
        let page = PAGE.min(limit.max(1));
        let mut base = self.base.scan(from, until, page)?;
        let mut base_at = 0;
        while out.len() < limit {
            if base_at == base.len() && base.len() == page {
                let next = keys::after(&base[base_at - 1].0);
                base = self.base.scan(&next, until, page)?;
                base_at = 0;
            }
            let upper = active.peek().map(|(key, _)| *key);
            let middle = frozen.as_mut().and_then(|range| range.peek().map(|(key, _)| *key));
            let lower = base.get(base_at).map(|(key, _)| key);
            let Some(least) = [upper, middle, lower].into_iter().flatten().min().cloned() else { break };
            let mut value = None;
            if lower.is_some_and(|key| *key == least) {
                value = base.get(base_at).map(|(_, value)| value.clone());
                base_at += 1;
            }
            if middle.is_some_and(|key| *key == least) {
                value = frozen.as_mut().and_then(Iterator::next).and_then(|(_, slot)| slot.value.clone());
            }
            if upper.is_some_and(|key| *key == least) {
                value = active.next().and_then(|(_, slot)| slot.value.clone());
            }
            out.extend(value.map(|value| (least, value)));
        }
        Ok(out)
    }

    /// Begins to move what is pending into the index; [`Layers::thaw`] ends it.
    pub fn freeze(&mut self) -> Arc<dyn Index> {
        debug_assert!(self.frozen.is_none());
        self.frozen = Some(Arc::new(std::mem::take(&mut self.active)));
        self.base.clone()
    }

    /// The writes that [`Layers::freeze`] set aside.
    pub fn frozen_writes(&self) -> Vec<Write> {
        let writes = self.frozen.iter().flat_map(|layer| layer.iter());
        writes.map(|(key, slot)| (key.clone(), slot.value.clone())).collect()
    }

    /// The index has the frozen writes.
    pub fn thaw(&mut self) {
        self.frozen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::MemoryIndex;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8, u8),
        Remove(u8),
        Freeze,
        Thaw,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u8..20, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
            4 => (0u8..20).prop_map(Step::Remove),
            1 => Just(Step::Freeze),
            1 => Just(Step::Thaw),
        ]
    }

    proptest! {
        #[test]
        fn layers_read_like_one_map(steps in prop::collection::vec(step(), 0..120), from in 0u8..20, until in 0u8..25, limit in 0usize..30) {
            let mut layers = Layers::new(Arc::new(MemoryIndex::default()));
            let mut model: BTreeMap<u8, u8> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Put(key, value) => {
                        let new = model.insert(key, value).is_none() && layers.get(&[key]).expect("get").is_none() && !layers.is_freezing() && layers.base.get(&[key]).expect("get").is_none();
                        layers.put([key].as_slice().into(), [value].as_slice().into(), new);
                    }
                    Step::Remove(key) => {
                        model.remove(&key);
                        layers.remove([key].as_slice().into());
                    }
                    Step::Freeze if !layers.is_freezing() => drop(layers.freeze()),
                    Step::Thaw if layers.is_freezing() => {
                        layers.base.apply(layers.frozen_writes()).expect("apply");
                        layers.thaw();
                    }
                    Step::Freeze | Step::Thaw => {}
                }
            }
            for key in 0u8..20 {
                let value = layers.get(&[key]).expect("get");
                prop_assert_eq!(value, model.get(&key).map(|v| vec![*v]));
            }
            let got: Vec<(u8, u8)> = layers.scan(&[from], &[until], limit).expect("scan").iter().map(|(k, v)| (k[0], v[0])).collect();
            let want: Vec<(u8, u8)> = if from < until { model.range(from..until).take(limit).map(|(k, v)| (*k, *v)).collect() } else { Vec::new() };
            prop_assert_eq!(got, want);
        }
    }
}
