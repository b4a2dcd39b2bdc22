"""What is wrong with a data set, before and after training: findings, statistics, a page, and a cleaned copy."""
