import { usage } from '../failure/failure.ts'

const UNITS: Readonly<Record<string, number>> = {
  m: 60,
  h: 3600,
  d: 86_400,
  w: 604_800,
  y: 31_536_000,
}
const YEARS_MAX = 10

/** `720h`, `30d`, `1h30m` in seconds; `never` is null. */
export function expirySeconds(text: string): number | null {
  if (text === 'never') return null
  const parts = [...text.matchAll(/(\d+)([mhdwy])/g)]
  const seconds = parts.reduce(
    (sum, [, count = '', unit = '']) => sum + Number(count) * (UNITS[unit] ?? 0),
    0,
  )
  if (parts.map(([part]) => part).join('') !== text || text === '')
    throw usage(`"${text}" is no time: it looks like 720h, 30d or never`)
  if (seconds < 60 || seconds > YEARS_MAX * 31_536_000)
    throw usage(
      `a token lives from one minute to ${YEARS_MAX} years, not ${text}; or for ever: never`,
    )
  return seconds
}
