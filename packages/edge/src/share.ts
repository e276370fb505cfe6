/** What one client address or one app may have of what all share, so that it leaves the others theirs. */
export function shareOf(all: number): number {
  return Math.max(1, Math.floor(all / 4))
}
