"""Other training methods than the book's: dropout, a carried state, AdamW, schedules."""
