import { expect, test } from 'vitest'
import { NAMED_SEEDS, type NamedSeed } from './named-seeds.ts'
import { createRandom } from './random.ts'
import { createSimWorld } from './sim-world.ts'

const STEP_MS = 100

/** `SEED_NAMED=clock` runs those whose name has that in it, and prints their timelines. */
const ONLY = process.env['SEED_NAMED']

for (const seed of NAMED_SEEDS)
  test.skipIf(ONLY !== undefined && !seed.name.includes(ONLY))(seed.name, async () => {
    const { wrong, timeline } = await tell(seed)
    if (ONLY !== undefined) console.log(timeline.join('\n'))
    expect(wrong, timeline.slice(-120).join('\n')).toEqual([])
  })

async function tell(
  seed: NamedSeed,
): Promise<{ readonly wrong: readonly string[]; readonly timeline: readonly string[] }> {
  const world = await createSimWorld({ hosts: seed.hosts, random: createRandom(1) })
  const { ends = {}, quietAtMs = Number.POSITIVE_INFINITY } = seed
  try {
    let next = 0
    let quiet = false
    while (world.elapsedMs() < seed.forMs) {
      for (; (seed.deeds[next]?.atMs ?? Number.POSITIVE_INFINITY) <= world.elapsedMs(); next++) {
        const deed = seed.deeds[next]?.deed
        if (deed !== undefined) void world.perform(deed)
      }
      if (!quiet && world.elapsedMs() >= quietAtMs) {
        quiet = true
        world.invariants.quiet()
        world.invariants.settled()
      }
      await world.run(world.clock.now() + STEP_MS)
    }
    world.heal()
    const settledMs = await world.settles()
    const { all } = await world.whileTimePasses(world.server.releases())
    const how = [...all].reverse().map(({ status }) => status)
    return {
      wrong: [
        ...world.problems,
        ...(ends.releases === undefined || String(ends.releases) === String(how)
          ? []
          : [`releases ended ${how.join(', ')}, not ${ends.releases.join(', ')}`]),
        ...(settledMs <= (ends.settledWithinMs ?? Number.POSITIVE_INFINITY)
          ? []
          : [`it took ${settledMs} ms to settle`]),
      ],
      timeline: world.timeline,
    }
  } finally {
    await world.close()
  }
}
