/** The panels of the page, in the order in which they stand: a new one is one line here (docs/extend.md). */

import "./panels/list";
import "./panels/document";
import "./panels/quality";
import "./panels/filters";
import "./panels/selection";
import "./panels/tags";
import "./panels/edits";
import "./panels/documents";
import "./panels/time";
