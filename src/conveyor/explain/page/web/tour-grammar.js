/** Subjects, verbs and the nouns between them in the sentences of the corpus agreement. */

/**
 * What each word is: {kind: "subject" | "between" | "attractor" | "verb" | "", plural, subject, ...}. A noun between a
 * subject and its verb is an attractor if it has the other number. Of a verb `subject` is the place of its subject.
 * `words`: without spaces; `known`: the tables of example.py.
 */
export function parsed(words, { nouns, verbs, that, stop }) {
  const found = words.map(() => ({ kind: "" }));
  let waiting = []; // subjects whose verbs are still to come
  words.forEach((word, place) => {
    if (Object.hasOwn(nouns, word)) {
      const plural = nouns[word] === 1;
      const isSubject = !waiting.length || words[place - 2] === that;
      const attracts = waiting.some((subject) => found[subject].plural !== plural);
      found[place] = { kind: isSubject ? "subject" : attracts ? "attractor" : "between", plural, attracts };
      if (isSubject) {
        waiting.push(place);
      }
    } else if (Object.hasOwn(verbs, word) && waiting.length) {
      found[place] = { kind: "verb", plural: verbs[word] === 1, subject: waiting.pop() };
    } else if (word === stop) {
      waiting = [];
    }
  });
  return found;
}

/** The two forms of each verb, and how probable each was: [{place, form, other, before: [p, p], after: [p, p]}]. */
export function verbForms(words, marks, { others }, number, runs) {
  return marks.flatMap(({ kind }, place) => {
    const [form, other] = [words[place], others[words[place]]];
    if (kind !== "verb" || !place || other === undefined) {
      return [];
    }
    const share = (run) => (run.length >= place ? [form, other].map((word) => run.probability(place - 1, number(` ${word}`))) : [NaN, NaN]);
    return [{ place, form, other, plain: share(runs.plain), edited: share(runs.edited) }];
  });
}
