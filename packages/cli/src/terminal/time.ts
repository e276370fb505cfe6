/** `3 s`, `5 min`, `2 h`, `4 d` ago, as somebody would say it. */
export function ago(at: string, now: number = Date.now()): string {
  const s = Math.max(0, Math.round((now - Date.parse(at)) / 1000))
  if (Number.isNaN(s)) return at
  if (s < 90) return `${s} s ago`
  if (s < 90 * 60) return `${Math.round(s / 60)} min ago`
  if (s < 36 * 3600) return `${Math.round(s / 3600)} h ago`
  return `${Math.round(s / 86_400)} d ago`
}

/** `0.4 s`, `12.3 s`, `2 min 5 s`. */
export function span(ms: number): string {
  if (ms < 120_000) return `${(ms / 1000).toFixed(1)} s`
  const s = Math.round(ms / 1000)
  return `${Math.floor(s / 60)} min ${s % 60} s`
}

export function bytes(n: number): string {
  if (n < 1000) return `${n} B`
  if (n < 1_000_000) return `${Math.round(n / 1000)} kB`
  return n < 1_000_000_000 ? `${(n / 1_000_000).toFixed(1)} MB` : `${(n / 1e9).toFixed(2)} GB`
}
