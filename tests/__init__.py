"""Tests of nsinspect."""
