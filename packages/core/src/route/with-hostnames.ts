import { wildcardOf } from '../certificate/hostname.ts'
import type { AppName } from '../id.ts'
import type { Route } from './route.ts'

/** Names of people's own lead where the name of their app does. */
export function withHostnames(
  routes: readonly Route[],
  hostnames: readonly { readonly name: string; readonly app: AppName }[],
): readonly Route[] {
  if (hostnames.length === 0) return routes
  const namesOf = new Map<AppName, string[]>()
  for (const { name, app } of hostnames) {
    const others = namesOf.get(app)
    if (others === undefined) namesOf.set(app, [name])
    else others.push(name)
  }
  return routes.map((route) => {
    const names = route.hostnames.length === 0 ? undefined : namesOf.get(route.app)
    return names === undefined
      ? route
      : { ...route, hostnames: [...route.hostnames, ...[...names].sort()] }
  })
}

export function routesByHost(routes: readonly Route[]): ReadonlyMap<string, Route> {
  return new Map(routes.flatMap((route) => route.hostnames.map((name) => [name, route] as const)))
}

/** By its own name, else by the wildcard that stands for it. */
export function routeOfHost(routes: ReadonlyMap<string, Route>, host: string): Route | undefined {
  return routes.get(host) ?? routes.get(wildcardOf(host))
}
