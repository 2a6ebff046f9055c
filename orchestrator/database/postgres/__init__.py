"""PostgreSQL: connections, writers, and notifications between replicas."""
