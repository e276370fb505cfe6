import { afterAll, beforeAll, describe, inject, test } from 'vitest'
import { SECTIONS } from './page.ts'
import { raiseWorld, type World } from './world.ts'

/** The edge on hosts whose machines are real, row by row, by clients near each region. `docs/reference/edge.md` is made of the same table. */
let world: World
beforeAll(async () => {
  world = await raiseWorld(inject('home'))
})
afterAll(() => world?.close())

describe.each(SECTIONS)('$title', ({ rows }) => {
  for (const { id, says, check, alone = false } of rows) {
    if (check === undefined) continue
    test(`${id}: ${says}`, { concurrent: !alone }, () => check(world))
  }
})
