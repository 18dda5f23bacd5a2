"""What is made of the answers: findings, reports as text, JSON and pages, hints, pictures."""
