"""Methods that describe users, one per file: RFM, k-means, PCA, price sensitivity, lifecycle."""
