"""What Prometheus is told: ``figures`` are gathered (``gather``), and become text (``exposition``, ``render``)."""
