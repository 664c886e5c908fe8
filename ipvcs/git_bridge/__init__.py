"""Git repositories by IPFS: conversion, the published layout, and the remote helper."""
