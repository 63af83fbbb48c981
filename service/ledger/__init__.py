"""What is done: Parquet shards while a study runs, published tables at its end."""
