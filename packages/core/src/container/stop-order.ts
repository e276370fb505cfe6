import type { Container } from './container.ts'

/**
 * In which order containers are stopped: the reverse of that in which they start. Those of one group are stopped together;
 * nobody is stopped before all who depend on it are. Of a circle, which no configuration may have, all stop at once.
 */
export function stopOrder(
  containers: readonly Pick<Container, 'name' | 'dependsOn'>[],
): readonly (readonly string[])[] {
  const groups: string[][] = []
  let left = [...containers]
  while (left.length > 0) {
    const needed = new Set(
      left.flatMap(({ name, dependsOn }) =>
        dependsOn.filter((on) => on.name !== name).map((on) => on.name),
      ),
    )
    const free = left.filter(({ name }) => !needed.has(name))
    const group = free.length > 0 ? free : left
    groups.push(group.map(({ name }) => name))
    left = left.filter((one) => !group.includes(one))
  }
  return groups
}

/** The longest that an orderly stop of all of them takes. */
export function stopMs(containers: readonly Container[]): number {
  const ms = new Map(containers.map(({ name, stop }) => [name, stop.timeout_ms]))
  return stopOrder(containers)
    .map((group) => Math.max(...group.map((name) => ms.get(name) ?? 0)))
    .reduce((sum, one) => sum + one, 0)
}
