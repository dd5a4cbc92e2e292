//! What lists hold.

use std::ops::Range;

use arrow_array::{Array, FixedSizeListArray, GenericListArray, LargeListArray, ListArray, OffsetSizeTrait};
use arrow_schema::DataType;

/// How deep lists may be nested.
pub(super) const MAX_DEPTH: usize = 8;

/// Whether these are lists of values of one type.
pub(super) fn is_list(data_type: &DataType) -> bool {
    matches!(data_type, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..))
}

/// Goes through lists to what is in them: calls a function with the length of each level of fixed length, `None` for
/// others, outermost first.
pub(super) fn levels(data_type: &DataType) -> (Vec<Option<i32>>, &DataType) {
    let mut levels = Vec::new();
    let mut inner = data_type;
    loop {
        inner = match inner {
            DataType::FixedSizeList(item, len) => {
                levels.push(Some(*len));
                item.data_type()
            }
            DataType::List(item) | DataType::LargeList(item) => {
                levels.push(None);
                item.data_type()
            }
            _ => return (levels, inner),
        };
    }
}

/// What is in some lists.
pub(super) struct Inside<'a> {
    pub(super) items: &'a dyn Array,
    pub(super) range: Range<usize>,
    /// The length of each list: of the first, and of one that differs, if there are such.
    pub(super) extent: Option<usize>,
    pub(super) other: Option<usize>,
}

/// What is in the lists of a range; `None` if they point beyond their items.
pub(super) fn inside(array: &dyn Array, range: Range<usize>) -> Option<Inside<'_>> {
    let any = array.as_any();
    let inside = if let Some(lists) = any.downcast_ref::<ListArray>() {
        by_offsets(lists, range)?
    } else if let Some(lists) = any.downcast_ref::<LargeListArray>() {
        by_offsets(lists, range)?
    } else {
        let lists = any.downcast_ref::<FixedSizeListArray>()?;
        let len = usize::try_from(lists.value_length()).ok()?;
        let extent = (!range.is_empty()).then_some(len);
        let range = range.start.checked_mul(len)?..range.end.checked_mul(len)?;
        Inside { items: &**lists.values(), range, extent, other: None }
    };
    (inside.range.start <= inside.range.end && inside.range.end <= inside.items.len()).then_some(inside)
}

fn by_offsets<O: OffsetSizeTrait>(lists: &GenericListArray<O>, range: Range<usize>) -> Option<Inside<'_>> {
    let offsets = lists.value_offsets().get(range.start..=range.end)?;
    let mut lens = offsets.windows(2).map(|bounds| bounds[1].as_usize().wrapping_sub(bounds[0].as_usize()));
    let extent = lens.next();
    let other = extent.and_then(|extent| lens.find(|&len| len != extent));
    let range = offsets.first()?.as_usize()..offsets.last()?.as_usize();
    Some(Inside { items: &**lists.values(), range, extent, other })
}

/// Whether any of the values is null.
pub(super) fn any_null(array: &dyn Array, range: &Range<usize>) -> bool {
    array.nulls().is_some_and(|nulls| nulls.null_count() > 0 && range.clone().any(|at| nulls.is_null(at)))
}
