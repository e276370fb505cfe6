/** When the same call may be tried again: at once, after a pause, or never with the same arguments. */
export type Retry = 'now' | 'later' | 'never'

/**
 * What adapters throw. `code` is one of api's ErrorCode (base may not import api, hence a string here).
 * The message says what was being done, in lower case; the cause says why and is never pasted into the message.
 */
export class PlatformError extends Error {
  readonly code: string
  readonly retry: Retry
  constructor(code: string, message: string, options: { cause?: unknown; retry?: Retry } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause })
    this.name = 'PlatformError'
    this.code = code
    this.retry = options.retry ?? 'never'
  }
}

/** The whole chain in one line, as a person reads it: `start machine 3287: pull registry/app:v2: connection refused`. */
export function describeError(error: unknown): string {
  const parts: string[] = []
  let at: unknown = error
  for (let depth = 0; at !== undefined && at !== null && depth < 8; depth++) {
    const text = at instanceof Error ? at.message : String(at)
    if (text !== '' && !parts.includes(text)) parts.push(text)
    at = at instanceof Error ? at.cause : undefined
  }
  return parts.join(': ')
}
