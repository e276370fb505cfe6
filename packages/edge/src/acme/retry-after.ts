/** An authority may ask for days: a limit that is counted by the week. */
const MS_MAX = 7 * 86_400_000

/** How long an answer asks to be left alone: its `retry-after`, in seconds or as a date (RFC 9110). null: it does not say. */
export function retryAfterMs(header: string | string[] | undefined, now: number): number | null {
  if (typeof header !== 'string' || header.trim() === '') return null
  const text = header.trim()
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now
  return ms > 0 ? Math.min(MS_MAX, ms) : null
}
