"""Keeps events that no subscriber took: the dead-letter sink of the drift events' Broker."""
