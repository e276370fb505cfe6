import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The checkout that this program runs from, be it from sources or from the bundle in `packages/cli/dist`. */
export function checkoutRoot(from: string = import.meta.dirname): string {
  for (let at = from; dirname(at) !== at; at = dirname(at))
    if (existsSync(join(at, 'roost')) && existsSync(join(at, 'packages'))) return at
  throw new Error(`no checkout of Roost above ${from}`)
}
