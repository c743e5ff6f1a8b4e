"""asyncio made stricter: tasks with names and guards, back-off schedules, work in turn."""
