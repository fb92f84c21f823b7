"""The pages: sign-in, callback, the owner's page, health. Flask, and no Celery."""
