import { knownRegion } from './region.ts'

/** Names for many regions at once, as Fly has them: where a request may go when any of these will do. */
const ALIASES: Readonly<Record<string, readonly string[]>> = {
  apac: ['bom', 'hkg', 'nrt', 'sin', 'syd'],
  eu: ['ams', 'arn', 'cdg', 'fra', 'lhr', 'mad', 'otp', 'waw'],
  na: ['gdl', 'qro', 'yul', 'yyz'],
  sa: ['bog', 'eze', 'gig', 'gru', 'scl'],
}

/** Whether a region is meant by a word: its own code, or one of `apac`, `eu`, `na`, `sa`, `us` (`usa`), `any`. */
export function isRegionMeant(word: string, region: string): boolean {
  const name = word.toLowerCase()
  const inUsa = () => knownRegion(region)?.name.endsWith('(US)') === true
  if (name === region || name === 'any') return true
  if (name === 'us' || name === 'usa') return inUsa()
  if (name === 'na' && inUsa()) return true
  return ALIASES[name]?.includes(region) === true
}
