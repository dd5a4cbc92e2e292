use procession::*;

#[test]
fn smoke() {
    for workers in [0, 1, 2, 4] {
        let loader = Loader::builder((0..1000_u64).collect::<Vec<_>>())
            .batch_size(7)
            .shuffle(3)
            .workers(workers)
            .build()
            .unwrap();
        let mut orders = Vec::new();
        for epoch in loader.epochs(0..20) {
            let mut seen = Vec::new();
            for batch in epoch {
                let batch = batch.unwrap();
                assert_eq!(batch.to_vec(), batch.indices());
                seen.extend(batch.to_vec());
            }
            let mut sorted = seen.clone();
            sorted.sort();
            assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
            orders.push(seen);
        }
        println!("{}", loader.report());
    }
}
