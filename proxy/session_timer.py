def session_timer(message):
    return None
