// Loaded when the first request is made and not before: help and complaints about the command line need none of it.
export { Agent, request } from 'undici'
